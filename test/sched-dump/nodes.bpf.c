/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * A scheduler for which the kernel keeps the idle CPUs of every NUMA node apart. At each tick of a CPU that runs one of its
 * tasks it records the masks that the kernel gives it.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

/* The first 64 CPUs of each node's idle mask. */
__u64 idle[2];
__u64 ticks;

SEC("struct_ops/nodes_enqueue")
void BPF_PROG(nodes_enqueue, struct task_struct *p, u64 enq_flags)
{
	scx_bpf_dsq_insert(p, SCX_DSQ_GLOBAL, SCX_SLICE_DFL, enq_flags);
}

static void note(s32 node)
{
	const struct cpumask *mask = scx_bpf_get_idle_cpumask_node(node);

	idle[node] = mask->bits[0];
	scx_bpf_put_idle_cpumask(mask);
}

SEC("struct_ops/nodes_tick")
void BPF_PROG(nodes_tick, struct task_struct *p)
{
	note(0);
	note(1);
	ticks++;
}

SEC(".struct_ops.link")
struct sched_ext_ops nodes_ops = {
	.enqueue = (void *)nodes_enqueue,
	.tick = (void *)nodes_tick,
	.flags = SCX_OPS_BUILTIN_IDLE_PER_NODE,
	.name = "nodes",
};
