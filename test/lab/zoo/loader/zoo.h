/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader's subjects share: the machine's figures, map creation, objects, the answers. */
#ifndef ZOO_H
#define ZOO_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Types that the sysroot's <linux/bpf.h> (6.12) does not name yet; numbers from 7.2's enum bpf_map_type. */
#define ZOO_MAP_TYPE_INSN_ARRAY 34
#define ZOO_MAP_TYPE_RHASH 35

struct zoo {
	int cpus;	 /* possible CPUs: what a per-CPU value is sized by */
	int page_size;	 /* bytes */
	bool own_netns;	 /* devices and sockets live in a network namespace of the loader's */
	bool busy_record; /* keep a ring buffer's record between reserve and submit */
	const char *cgroup_root; /* where cgroup2 is mounted, NULL: nowhere */
};
extern struct zoo zoo;

/* ---- answers.c: the document that the loader prints ---- */
void answers_begin(void);
/* Starts a map's entry. `content` names the shape of its entries (README); `moving`: why it does not stand still, NULL: static. */
void map_open(int fd, const char *content, const char *moving);
/* A member of the map's entry, as JSON text ("\"bounds\":{...}"); before the first element only. */
void map_field(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void map_entry(const void *key, size_t key_size, const void *value, size_t value_size, const char *expect);
void map_entry_percpu(const void *key, size_t key_size, const void *values, size_t value_size);
/* An element without a key; `extra`: members as JSON text ("\"owner\":{...}"), NULL: none. */
void map_record(const void *value, size_t value_size, const char *extra);
void map_close(void);
/* `runs`: how often the loader ran it so far; `exact`: nobody else runs it. */
void answer_prog(int fd, __u64 runs, bool exact);
void answer_link(int fd, const char *extra);
void answer_skip(const char *what, const char *name, const char *why);
void answers_write(FILE *out);

/* ---- maps.c: maps without an object, hence without BTF ---- */
struct raw_map {
	__u32 type;
	const char *name;
	__u32 key_size, value_size, max_entries, flags;
	__u64 extra;
	int inner_fd; /* for maps of maps; 0: none */
};
/* An fd, or -1 with the refusal noted in the answers. */
int raw_map(const struct raw_map *m);
/* Update that must succeed, told in the answers. */
void put(int fd, const void *key, size_t key_size, const void *value, size_t value_size, const char *expect);
/* Recognisable bytes: `seed`, seed+1, ... so that a shifted read shows. */
void pattern(void *out, size_t size, unsigned seed);
/* Room for one value of every possible CPU, at the kernel's stride of round_up(value_size, 8). */
void *percpu_alloc(size_t value_size);
void percpu_pattern(void *values, size_t value_size, unsigned seed);
void put_percpu(int fd, const void *key, size_t key_size, const void *values, size_t value_size);
/* Reads every pair back: for kinds where the kernel decides what stays (LRU, stack traces). */
void answer_survivors(int fd, size_t key_size, size_t value_size, bool percpu);

/* ---- object.c: BPF objects ---- */
struct embedded {
	const char *name; /* the object's name: libbpf prefixes .bss and its like with it */
	const void *start, *end;
};
/*
 * Opens and loads; programs and maps that this kernel refuses are left out one by one and told as skipped.
 * `prepare` (may be NULL) is called after every open. NULL: nothing of it could be loaded.
 */
struct bpf_object *object_load(const struct embedded *e, void (*prepare)(struct bpf_object *));
/* fd of a map by its full name in the object; -1: skipped. */
int object_map(struct bpf_object *o, const char *name);
/* fd of a program; -1: skipped. */
int object_prog(struct bpf_object *o, const char *name);
/* Tells an object's global sections that no subject told by itself: bytes from libbpf's mapping, no expectations. */
void answer_sections(struct bpf_object *o);
/* Ends the loader: something that must work does not. */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#define EMBEDDED(ident)                                                                                                \
	extern const char ident##_start[] __asm__("zoo_" #ident "_start");                                             \
	extern const char ident##_end[] __asm__("zoo_" #ident "_end");                                                 \
	static const struct embedded ident = { "zoo_" #ident, ident##_start, ident##_end }

/* ---- people.c: owners ---- */
struct resident {
	int pid;
	int pidfd;
	char comm[16]; /* as the kernel cuts it */
};
struct group {
	int fd;		       /* of its folder */
	unsigned long long id; /* the folder's inode number */
	char path[256];	       /* below the root of cgroup2, "/..." */
};
enum { RESIDENTS = 4, GROUPS = 3 };
extern struct resident residents[RESIDENTS];
/* groups[0] holds the others; `group_count` is 0 where there is no cgroup2. */
extern struct group groups[GROUPS];
extern int group_count;
/* Forks sleepers with known names and makes cgroups; both are gone when the loader is. */
void move_in(void);
/* Text as a JSON string of hex, for names that may be no UTF-8. */
const char *hex_of(const void *bytes, size_t size);

/* ---- one function a subject, called in this order ---- */
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

/* Network programs, which maps of devices and CPUs hold too; NULL: not loaded. */
extern struct bpf_object *net_object;

/* ---- what keeps the moving ones moving, several times a second ---- */
void stir_trace(void);
void stir_net(void);

#endif
