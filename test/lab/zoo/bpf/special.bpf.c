/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Values with special fields: a lock, a timer, a pointer to a task. bpf(2) returns zeros for the first two. */
#include "zoo_bpf.h"

struct task_struct {
	int pid;
} KERNEL_TYPE;

struct locked {
	__u32 before;
	struct bpf_spin_lock lock;
	__u64 after;
};

struct timed {
	__u64 before;
	struct bpf_timer timer;
	__u64 after;
};

struct pointing {
	__u64 before;
	struct task_struct __kptr_untrusted *task;
	__u64 after;
};

#define SPECIAL(name, kind, value_type)                                                                                \
	struct {                                                                                                       \
		__uint(type, kind);                                                                                    \
		__uint(max_entries, 2);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

SPECIAL(z_spin_lock, BPF_MAP_TYPE_HASH, struct locked);
SPECIAL(z_timer, BPF_MAP_TYPE_ARRAY, struct timed);
SPECIAL(z_kptr, BPF_MAP_TYPE_ARRAY, struct pointing);

static int never(void *map, int *key, struct timed *value)
{
	return 0;
}

/* Arms a timer that expires late, and stores a pointer to the caller's task. */
SEC("syscall")
int z_special(void *ctx)
{
	__u32 key = 1;
	struct timed *t = bpf_map_lookup_elem(&z_timer, &key);
	if (!t)
		return 1;
	if (bpf_timer_init(&t->timer, &z_timer, 1 /* CLOCK_MONOTONIC */) || bpf_timer_set_callback(&t->timer, never) ||
	    bpf_timer_start(&t->timer, 1ULL << 50, 0))
		return 2;
	struct pointing *p = bpf_map_lookup_elem(&z_kptr, &key);
	if (!p)
		return 3;
	p->task = bpf_get_current_task_btf();
	return 0;
}
