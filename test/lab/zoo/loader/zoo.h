/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the loader's files: sizes of the machine, map creation, objects, the answers. */
#ifndef ZOO_H
#define ZOO_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Types that the sysroot's <linux/bpf.h> (6.12) does not have. Numbers are from 7.2's enum bpf_map_type. */
#define ZOO_MAP_TYPE_INSN_ARRAY 34
#define ZOO_MAP_TYPE_RHASH 35

struct zoo {
	int cpus;	 /* possible CPUs, which give the size of a per-CPU value */
	int page_size;	 /* bytes */
	bool own_netns;	 /* devices and sockets are in the loader's own network namespace */
	bool busy_record; /* keep a ring buffer's record between reserve and submit */
	const char *cgroup_root; /* mount point of cgroup2; NULL if not mounted */
};
extern struct zoo zoo;

/* ---- answers.c: the document that the loader prints ---- */
void answers_begin(void);
/* Starts a map's answer. `content`: kind of its entries (README). `moving`: why the map changes; NULL if it does not. */
void map_open(int fd, const char *content, const char *moving);
/* Adds a member to the map's answer, as JSON text ("\"bounds\":{...}"). Call it before the first element. */
void map_field(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void map_entry(const void *key, size_t key_size, const void *value, size_t value_size, const char *expect);
void map_entry_percpu(const void *key, size_t key_size, const void *values, size_t value_size);
/* Adds an element without a key. `extra`: members as JSON text ("\"owner\":{...}"), or NULL. */
void map_record(const void *value, size_t value_size, const char *extra);
void map_close(void);
/* `runs`: number of times that the loader has run the program. `exact`: only the loader runs it. */
void answer_prog(int fd, __u64 runs, bool exact);
void answer_link(int fd, const char *extra);
void answer_skip(const char *what, const char *name, const char *why);
void answers_write(FILE *out);

/* ---- maps.c: maps without an object, which have no BTF ---- */
struct raw_map {
	__u32 type;
	const char *name;
	__u32 key_size, value_size, max_entries, flags;
	__u64 extra;
	int inner_fd; /* for maps of maps; otherwise 0 */
};
/* Returns an fd, or -1 if the kernel refuses. The answers then have the refusal. */
int raw_map(const struct raw_map *m);
/* Updates an element and adds it to the answers. Ends the loader on failure. */
void put(int fd, const void *key, size_t key_size, const void *value, size_t value_size, const char *expect);
/* Fills bytes with `seed`, seed+1, ..., so that a read at a wrong offset is detected. */
void pattern(void *out, size_t size, unsigned seed);
/* Returns a buffer for the values of all possible CPUs, with the kernel's stride of round_up(value_size, 8). */
void *percpu_alloc(size_t value_size);
void percpu_pattern(void *values, size_t value_size, unsigned seed);
void put_percpu(int fd, const void *key, size_t key_size, const void *values, size_t value_size);
/* Reads all pairs back, for types where the kernel chooses which elements stay (LRU, stack traces). */
void answer_survivors(int fd, size_t key_size, size_t value_size, bool percpu);

/* ---- object.c: BPF objects ---- */
struct embedded {
	const char *name; /* the object's name, which libbpf uses as the prefix of .bss and other sections */
	const void *start, *end;
};
/*
* Opens and loads an object. Programs and maps that this kernel refuses are left out one by one and listed as skipped.
 * `prepare` (can be NULL) is called after every open. Returns NULL if no part could be loaded.
 */
struct bpf_object *object_load(const struct embedded *e, void (*prepare)(struct bpf_object *));
/* Returns the fd of a map by its full name in the object, or -1 if it was skipped. */
int object_map(struct bpf_object *o, const char *name);
/* Returns the fd of a program, or -1 if it was skipped. */
int object_prog(struct bpf_object *o, const char *name);
/* Adds the global sections of an object that have no answers yet: bytes from libbpf's mapping, without expected values. */
void answer_sections(struct bpf_object *o);
/* Ends the loader with an error. */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#define EMBEDDED(ident)                                                                                                \
	extern const char ident##_start[] __asm__("zoo_" #ident "_start");                                             \
	extern const char ident##_end[] __asm__("zoo_" #ident "_end");                                                 \
	static const struct embedded ident = { "zoo_" #ident, ident##_start, ident##_end }

/* ---- people.c: owners ---- */
struct resident {
	int pid;
	int pidfd;
	char comm[16]; /* as cut by the kernel */
};
struct group {
	int fd;		       /* fd of its folder */
	unsigned long long id; /* the folder's inode number */
	char path[256];	       /* below the root of cgroup2, "/..." */
};
enum { RESIDENTS = 4, GROUPS = 3 };
extern struct resident residents[RESIDENTS];
/* groups[0] is the parent of the others. `group_count` is 0 if cgroup2 is not mounted. */
extern struct group groups[GROUPS];
extern int group_count;
/* Forks sleeping processes with known names and creates cgroups. Both end with the loader. */
void move_in(void);
/* Returns text as a JSON string of hex digits, for names that can be invalid UTF-8. */
const char *hex_of(const void *bytes, size_t size);

/* ---- one function per subject, called in this order ---- */
void show_hashes(void);
void show_lru(void);
void show_arrays(void);
void show_tries(void);
void show_queues(void);
void show_nested(void);
void show_typed(void);
void show_globals(void);
void show_storage(void);
void show_rings(void);
void show_cgroups(void);
void show_trace(void);
void show_net(void);
void show_net_maps(void);
void show_struct_ops(void);
void show_arenas(void);
void show_special(void);
void show_held_record(void);

/* The network programs, which maps of devices and CPUs also contain; NULL if not loaded. */
extern struct bpf_object *net_object;

/* ---- called several times a second: changes the maps and counters that are not static ---- */
void stir_trace(void);
void stir_net(void);

#endif
