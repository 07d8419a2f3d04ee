/* SPDX-License-Identifier: Apache-2.0 */
/* Arenas (since 6.9): sparse pages allocated by BPF programs and by user faults, freed pages, empty pages. */
#include "zoo.h"
#include "../zoo_types.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

EMBEDDED(arena);

struct node {
	__u64 magic, next;
	__u32 index;
	char label[12];
};
struct arena_request {
	__u32 page_size, page, offset, index, free_it;
};

/* One region of known bytes. The bytes between the regions of an allocated page are zero. */
static void tell(__u64 base, __u32 page, __u32 offset, const void *bytes, size_t size, const char *expect)
{
	char extra[512];
	snprintf(extra, sizeof(extra), "\"page\":%u,\"offset\":%u,\"address\":\"0x%llx\"%s%s", page, offset,
		 (unsigned long long)(base + (__u64)page * zoo.page_size + offset), expect ? ",\"expect\":" : "", expect ? expect : "");
	map_record(bytes, size, extra);
}

/* The list has one node per page. The last added node is the head, so `next` points to the node that was added before. */
static void nodes(int prog)
{
	static const struct {
		__u32 page, offset;
	} at[] = { { 2, 0 }, { 3, 64 }, { 7, 4000 }, { 100, 8 }, { 511, 0 }, { 512, 24 }, { 999, 4056 } };
	__u64 next = 0;
	struct arena_request freed = { zoo.page_size, 600, 0, 0, 1 };
	for (__u32 i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct arena_request r = { zoo.page_size, at[i].page, at[i].offset, i, 0 };
		struct node n = { ZOO_ARENA_MAGIC, next, i, { 'n', '0' + i } };
		char expect[256];
		LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &r, .ctx_size_in = sizeof(r));
		if (bpf_prog_test_run_opts(prog, &run) || run.retval)
			die("z_arena_add %u: %m, returned %u", i, run.retval);
		/* The page is allocated, so this read does not allocate it. */
		if (memcmp((void *)(unsigned long)(ZOO_ARENA_ADDRESS + (__u64)r.page * zoo.page_size + r.offset), &n, sizeof(n)))
			die("z_arena: node %u is not as written", i);
		snprintf(expect, sizeof(expect), "{\"magic\":\"%llu\",\"next\":\"0x%llx\",\"index\":%u}", ZOO_ARENA_MAGIC,
			 (unsigned long long)next, i);
		tell(ZOO_ARENA_ADDRESS, r.page, r.offset, &n, sizeof(n), expect);
		next = ZOO_ARENA_ADDRESS + (__u64)r.page * zoo.page_size + r.offset;
	}
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &freed, .ctx_size_in = sizeof(freed));
	if (bpf_prog_test_run_opts(prog, &run) || run.retval)
		die("z_arena_add, to free it: %m, returned %u", run.retval);
	answer_prog(prog, sizeof(at) / sizeof(at[0]) + 1, true);
}

/*
* libbpf places the globals at the start of the arena, and newer versions at its end. They are searched in the mapping of
 * that page, which libbpf has allocated by copying the initial values.
 */
static void globals(struct bpf_object *o)
{
	size_t size;
	struct bpf_map *m = bpf_object__find_map_by_name(o, "z_arena");
	const char *at = bpf_map__initial_value(m, &size);
	char all[64];
	if (!at || size > sizeof(all))
		die("the arena's globals: %zu bytes", size);
	memcpy(all, at, size);
	__u64 address = (__u64)(unsigned long)at;
	/* The head points to the last node. */
	char expect[256];
	snprintf(expect, sizeof(expect),
		 "{\"zoo_arena_number\":\"1234605616436508552\",\"zoo_arena_head\":\"0x%llx\",\"zoo_arena_vector\":[1,-2,3,-4]}",
		 (unsigned long long)(ZOO_ARENA_ADDRESS + 999ull * zoo.page_size + 4056));
	tell(ZOO_ARENA_ADDRESS, (__u32)((address - ZOO_ARENA_ADDRESS) / zoo.page_size),
	     (__u32)((address - ZOO_ARENA_ADDRESS) % zoo.page_size), all, size, expect);
}

/* An arena without a program and a fixed address: its pages were allocated by writes from user space. */
static void by_faults(void)
{
	enum { PAGES = 64 };
	static const __u32 touched[] = { 0, 5, 6, 63 };
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_ARENA, "z_arena_faults", 0, 0, PAGES, BPF_F_MMAPABLE });
	if (fd < 0)
		return;
	char *base = mmap(NULL, PAGES * (size_t)zoo.page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		die("z_arena_faults: mmap: %m");
	map_open(fd, "arena", NULL);
	map_field("\"user_base\":\"0x%lx\"", (unsigned long)base);
	for (unsigned i = 0; i < 4; i++) {
		unsigned char bytes[100];
		pattern(bytes, sizeof(bytes), 30 * i);
		memcpy(base + touched[i] * (size_t)zoo.page_size + 128, bytes, sizeof(bytes));
		tell((__u64)(unsigned long)base, touched[i], 128, bytes, sizeof(bytes), NULL);
	}
	map_close();
}

static void empty(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_ARENA, "z_arena_empty", 0, 0, 100, BPF_F_MMAPABLE });
	if (fd < 0)
		return;
	map_open(fd, "arena", NULL);
	map_close();
}

void show_arenas(void)
{
	by_faults();
	empty();
	struct bpf_object *o = object_load(&arena, NULL);
	int fd = object_map(o, "z_arena"), prog = object_prog(o, "z_arena_add");
	if (fd < 0 || prog < 0)
		return;
	map_open(fd, "arena", NULL);
	map_field("\"user_base\":\"0x%llx\"", ZOO_ARENA_ADDRESS);
	nodes(prog);
	globals(o);
	map_close();
}
