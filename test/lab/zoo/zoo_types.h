/* SPDX-License-Identifier: Apache-2.0 */
/*
* Types of the zoo that are hard to print, for the BPF programs and the loader. Both are little-endian LP64 and compiled by
 * one clang; the assertions at the end check that both have the same layout.
 */
#ifndef ZOO_TYPES_H
#define ZOO_TYPES_H

#include <linux/types.h>

#ifndef bool
#define bool _Bool
#endif

enum zoo_mood { ZOO_WORST = -2147483647 - 1, ZOO_GRUMPY = -3, ZOO_CALM = 0, ZOO_HAPPY = 7 };
enum zoo_top { ZOO_TOP_NONE = 0, ZOO_TOP = 0xffffffff };
enum zoo_big { ZOO_BIG_NONE = 0, ZOO_BIG = 0xfedcba9876543210ULL };
enum zoo_big_signed { ZOO_BIG_LOW = -0x123456789abcdef0LL, ZOO_BIG_HIGH = 0x7fffffffffffffffLL };
enum zoo_small { ZOO_SMALL_A = 1, ZOO_SMALL_B = 2, ZOO_SMALL_MINUS = -1 } __attribute__((packed));

/* Bit-fields that start and end inside bytes, signed bit-fields, one that fills its unit, an enum and a bool. */
struct zoo_bits {
	__u32 a : 1;
	__u32 b : 3;
	__s32 c : 5;
	__u32 d : 23;
	__u64 e : 33;
	__s64 f : 31;
	__u8 g : 4, h : 4;
	enum zoo_mood mood : 4;
	bool flag : 1;
	__u32 : 7;
	__u32 after : 11;
	__u64 whole : 64;
};

struct zoo_nested {
	union {
		struct {
			__u16 low, high;
		};
		__u32 word;
	};
	struct {
		union {
			__u64 wide;
			__u8 bytes[8];
			struct {
				__s32 left;
				union {
					__s32 right;
					__u16 right_half;
				};
			};
		};
	};
	struct {
		int x, y;
	} points[3];
	__s16 matrix[2][3][2];
	struct {
	} nothing;
	union {
		__u8 tag;
		__u32 tagged;
	} named;
};

struct zoo_scalars {
	bool yes, no;
	__s8 s8;
	char letter;
	unsigned char byte;
	__s16 s16;
	__u16 u16;
	__s32 s32;
	__u32 u32;
	__s64 s64;
	__u64 u64;
	__int128 s128;
	unsigned __int128 u128;
	float f32;
	double f64;
	bool flags[3];
	enum zoo_mood mood, stranger;
	enum zoo_top top;
	enum zoo_big big;
	enum zoo_big_signed big_signed, big_stranger;
	enum zoo_small small;
};

struct zoo_forward;
typedef int (*zoo_callback)(int, void *);
typedef __u32 zoo_u32_t;
typedef zoo_u32_t zoo_id_t;
typedef const volatile zoo_id_t zoo_cv_id_t;
typedef zoo_cv_id_t zoo_chain_t;
typedef struct {
	zoo_chain_t id;
	zoo_id_t pair[2];
} zoo_anonymous_t;

struct zoo_pointers {
	void *any;
	const char *text;
	zoo_callback callback;
	int (*inline_callback)(struct zoo_forward *, const volatile void *);
	struct zoo_forward *forward;
	const volatile struct zoo_bits *const_volatile;
	void **twice;
	struct zoo_pointers *self;
	int (*array_pointer)[4];
	zoo_chain_t chain;
	zoo_anonymous_t anonymous;
};

struct zoo_text {
	char plain[8];
	char full[8];	    /* no NUL */
	char escapes[16];   /* control bytes, quotes, a backslash, an ANSI sequence */
	char invalid[8];    /* not UTF-8 */
	char utf8[8];
	char after_nul[8];  /* bytes after the NUL */
	char empty[4];
	signed char s[4];
	unsigned char u[4];
	char two[2][4];
};

struct zoo_packed {
	__u8 first;
	__u64 second;
	__u16 third;
	__u32 bits : 5;
	__u32 more : 12;
} __attribute__((packed));

struct zoo_aligned {
	__u8 first;
	__u64 second __attribute__((aligned(32)));
	__u8 last;
};

union zoo_union {
	__u64 number;
	struct {
		__u32 low, high;
	} halves;
	char letters[8];
};

struct zoo_flexible {
	__u32 count;
	__u32 items[];
};

/* A key with a hole: bytes 1 to 3 are padding. They are part of the key. */
struct zoo_key {
	__u8 kind;
	__u32 number;
	char name[4];
};

typedef __s32 zoo_vector[4];

/* The value of the storage maps for each owner. */
struct zoo_owned {
	__u64 number;
	enum zoo_mood mood;
	char label[12];
};

/* Address of the fixed arena: inside the smallest address space (39 bits), far from the mappings of a static program. */
#define ZOO_ARENA_ADDRESS (1ULL << 36)
#define ZOO_ARENA_MAGIC 0xa7e4a00dfeed5eedULL

_Static_assert(sizeof(struct zoo_bits) == 32, "bits");
_Static_assert(sizeof(struct zoo_nested) == 72, "nested");
_Static_assert(sizeof(struct zoo_scalars) == 144, "scalars");
_Static_assert(sizeof(struct zoo_pointers) == 88, "pointers");
_Static_assert(sizeof(struct zoo_text) == 76, "text");
_Static_assert(sizeof(struct zoo_packed) == 14, "packed");
_Static_assert(sizeof(struct zoo_aligned) == 64, "aligned");
_Static_assert(sizeof(struct zoo_key) == 12, "key");

#endif
