/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Ring buffers, and stacks recorded at a raw tracepoint. */
#include "zoo_bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} z_ring SEC(".maps"), z_ring_wrapped SEC(".maps"), z_ring_empty SEC(".maps"), z_ring_busy SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 64 * 1024);
} z_user_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 128);
	__uint(key_size, 4);
	__uint(value_size, 20 * 8);
} z_stacks SEC(".maps");

const volatile __u32 loader_pid;
__u32 failures;

struct request {
	__u32 size;   /* size of the record, at most 256 */
	__u32 seed;   /* first byte of its pattern */
	__u32 discard;
	__u32 wrapped; /* which of the two rings */
	__u64 stuck;   /* z_ring_hold only: a user address whose page is never provided */
};

/* The record is copied from here, because the verifier must know the sizes that are passed to helpers. */
static char bytes[256];

SEC("syscall")
int z_ring_fill(struct request *r)
{
	__u32 size = r->size;
	for (int i = 0; i < 256; i++)
		bytes[i] = r->seed + i;
	if (size == 0 || size > sizeof(bytes))
		return 1;
	if (r->discard) {
		void *record = bpf_ringbuf_reserve(&z_ring, 40, 0);
		if (!record)
			return 2;
		__builtin_memset(record, 0xdd, 40);
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 0;
	}
	return r->wrapped ? bpf_ringbuf_output(&z_ring_wrapped, bytes, size, 0) : bpf_ringbuf_output(&z_ring, bytes, size, 0);
}

/* Keeps a record between reserve and submit until the page of `stuck` is provided. */
SEC("syscall")
int z_ring_hold(struct request *r)
{
	char *record = bpf_ringbuf_reserve(&z_ring_busy, 24, 0);
	char first = 1;
	if (!record)
		return 1;
	__builtin_memset(record, 0xbb, 24);
	bpf_copy_from_user(&first, 1, (void *)r->stuck);
	record[0] = first;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("raw_tp/sys_enter")
int z_stack_taker(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != loader_pid)
		return 0;
	if (bpf_get_stackid(ctx, &z_stacks, BPF_F_REUSE_STACKID) < 0)
		__sync_fetch_and_add(&failures, 1);
	if (bpf_get_stackid(ctx, &z_stacks, BPF_F_REUSE_STACKID | BPF_F_USER_STACK) < 0)
		__sync_fetch_and_add(&failures, 1);
	return 0;
}

static long one_sample(struct bpf_dynptr *sample, void *context)
{
	return 0;
}

/* The consumer of the user ring buffer. It is never run. */
SEC("syscall")
int z_user_drain(void *ctx)
{
	return (int)bpf_user_ringbuf_drain(&z_user_ring, one_sample, 0, 0);
}
