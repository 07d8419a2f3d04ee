/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* An arena at a fixed address: pages that the program allocates, a list across the pages, global variables. */
#include "zoo_bpf.h"
#include "../zoo_types.h"

#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1000); /* pages */
	__ulong(map_extra, ZOO_ARENA_ADDRESS);
} z_arena SEC(".maps");

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 page_cnt, int node_id, __u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *ptr, __u32 page_cnt) __ksym __weak;

struct node {
	__u64 magic;
	struct node __arena *next;
	__u32 index;
	char label[12];
};

__u64 __arena zoo_arena_number = 0x1122334455667788ULL;
struct node __arena *__arena zoo_arena_head;
int __arena zoo_arena_vector[4] = { 1, -2, 3, -4 };

struct arena_request {
	__u32 page_size;
	__u32 page;   /* index in the arena */
	__u32 offset; /* in the page */
	__u32 index;
	__u32 free_it;
};

SEC("syscall")
int z_arena_add(struct arena_request *r)
{
	__u64 address = ZOO_ARENA_ADDRESS + (__u64)r->page * r->page_size;
	char __arena *page = bpf_arena_alloc_pages(&z_arena, (void __arena *)address, 1, -1, 0);
	if (!page)
		return 1;
	if (r->free_it) {
		bpf_arena_free_pages(&z_arena, page, 1);
		return 0;
	}
	struct node __arena *n = (struct node __arena *)(page + r->offset);
	n->magic = ZOO_ARENA_MAGIC;
	n->index = r->index;
	n->label[0] = 'n';
	n->label[1] = '0' + r->index % 10;
	n->next = zoo_arena_head;
	zoo_arena_head = n;
	return 0;
}
