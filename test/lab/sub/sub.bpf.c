/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
* Three schedulers with the kernel's default operations. Each accepts the next one as its sub-scheduler. This needs
 * `sched_ext_ops_cid`, and the kernel requires that programs of such a scheduler use an arena.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
} arena SEC(".maps");

static int use_arena(void)
{
	asm volatile("" ::"r"(&arena));
	return 0;
}

SEC("struct_ops/top_attach")
s32 BPF_PROG(top_attach, struct scx_sub_attach_args *args)
{
	return use_arena();
}

SEC("struct_ops/middle_attach")
s32 BPF_PROG(middle_attach, struct scx_sub_attach_args *args)
{
	return use_arena();
}

SEC("struct_ops.s/leaf_init")
s32 BPF_PROG(leaf_init)
{
	return use_arena();
}

SEC(".struct_ops.link")
struct sched_ext_ops_cid top_ops = {
	.sub_attach = (void *)top_attach,
	.name = "lab_top",
};

SEC(".struct_ops.link")
struct sched_ext_ops_cid middle_ops = {
	.sub_attach = (void *)middle_attach,
	.name = "lab_middle",
};

SEC(".struct_ops.link")
struct sched_ext_ops_cid leaf_ops = {
	.init = (void *)leaf_init,
	.name = "lab_leaf",
};
