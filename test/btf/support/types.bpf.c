/* Every type that a map's value or a global can have, with values that the tests know. Built by load.ts. */
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef short s16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

enum color { RED, GREEN = 5, BLUE = -3 };
enum small { SMALL_A = 1, SMALL_B = 200 } __attribute__((packed));
enum big { BIG_ONE = 1, BIG_TOP = 0xffffffffffffffffULL, BIG_MIDDLE = 0x1234567890abcdefULL };
enum far { FAR_NEAR = 1, FAR_BELOW = -0x7fffffffffffffffLL };

struct forward;
typedef u32 (*callback_t)(struct forward *, const char *, ...);

struct point {
	s16 x;
	s16 y;
};

union number {
	u64 whole;
	u32 halves[2];
	u8 bytes[8];
};

struct bits {
	u32 three : 3;
	u32 nine : 9;
	s32 negative : 5;
	u64 wide : 40;
	_Bool flag : 1;
	enum color shade : 4;
};

struct everything {
	u8 u8;
	s8 s8;
	u16 u16;
	s16 s16;
	u32 u32;
	s32 s32;
	u64 u64;
	s64 s64;
	unsigned __int128 u128;
	__int128 s128;
	_Bool yes;
	_Bool no;
	char letter;
	char bell;
	char name[16];
	char full[4];
	char latin[8];
	char quoted[12];
	char empty[8];
	u8 mac[6];
	enum color color;
	enum color unknown;
	enum small small;
	enum big big;
	enum far far;
	struct point path[3];
	int grid[2][3];
	struct {
		int inside;
		union {
			u32 as_number;
			u8 as_bytes[4];
		};
	};
	union number number;
	struct bits bits;
	struct forward *unknown_pointer;
	const char *volatile text_pointer;
	callback_t callback;
	void *nothing;
	struct {
	} hollow;
	u64 zeros[32];
	u16 runs[12];
};

#define EVERYTHING { \
	.u8 = 255, .s8 = -128, .u16 = 65535, .s16 = -32768, .u32 = 4294967295u, .s32 = -2147483647 - 1, \
	.u64 = 18446744073709551615ull, .s64 = -9223372036854775807ll - 1, \
	.u128 = ((unsigned __int128)0x0123456789abcdefull << 64) | 0xfedcba9876543210ull, .s128 = -1, \
	.yes = 1, .letter = 'k', .bell = 7, .name = "ktstr", .full = { 'f', 'u', 'l', 'l' }, \
	.latin = "na\xefve", .quoted = "say \"hi\"", .mac = { 2, 0, 0, 0xab, 0xcd, 0xef }, \
	.color = BLUE, .unknown = (enum color)77, .small = SMALL_B, .big = BIG_MIDDLE, .far = FAR_BELOW, \
	.path = { { 1, -1 }, { 2, -2 }, { 3, -3 } }, .grid = { { 1, 2, 3 }, { 4, 5, 6 } }, \
	.inside = 11, .as_number = 0x04030201, .number = { .whole = 0x0000000200000001ull }, \
	.bits = { 5, 300, -7, 0xabcdef0123ull, 1, GREEN }, \
	.unknown_pointer = (struct forward *)0xffff888000001000ull, .text_pointer = (const char *)0x10ull, \
	.callback = (callback_t)0xffffffff81234567ull, \
	.runs = { 1, 7, 7, 7, 7, 7, 7, 9, 9, 2, 2, 2 }, \
}

struct everything in_data SEC(".data") = EVERYTHING;
const volatile u64 in_rodata = 9007199254740993ull;
u32 in_bss;
static volatile s32 hidden_in_bss;
struct point points_in_bss[2];
float single SEC(".data.floats") = 0.1f;
double twice SEC(".data.floats") = -2.5;
float infinite SEC(".data.floats") = __builtin_inff();

struct key {
	u32 cpu;
	char comm[8];
};

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct everything);
} array_of_all SEC(".maps");

struct {
	__uint(type, 1); /* BPF_MAP_TYPE_HASH */
	__uint(max_entries, 4);
	__type(key, struct key);
	__type(value, union number);
} hash_by_struct SEC(".maps");

struct {
	__uint(type, 6); /* BPF_MAP_TYPE_PERCPU_ARRAY */
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct point);
} per_cpu SEC(".maps");

SEC("socket") int program(void *context)
{
	/* Each section is used, so that each becomes a map with its types. */
	hidden_in_bss++;
	return in_data.u32 + in_rodata + in_bss + points_in_bss[1].x + *(volatile u32 *)&single;
}

char license_text[] SEC("license") = "GPL";
