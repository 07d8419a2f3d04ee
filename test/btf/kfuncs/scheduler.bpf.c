// A sched_ext scheduler with one queue.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

#define SHARED 0

SEC("struct_ops/select_cpu")
s32 BPF_PROG(one_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;
	s32 cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);

	if (is_idle)
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, SCX_SLICE_DFL, 0);
	return cpu;
}

SEC("struct_ops/enqueue")
void BPF_PROG(one_enqueue, struct task_struct *p, u64 enq_flags)
{
	scx_bpf_dsq_insert(p, SHARED, SCX_SLICE_DFL, enq_flags);
	scx_bpf_kick_cpu(scx_bpf_task_cpu(p), SCX_KICK_IDLE);
}

SEC("struct_ops/dispatch")
void BPF_PROG(one_dispatch, s32 cpu, struct task_struct *prev)
{
	if (scx_bpf_dsq_nr_queued(SHARED))
		scx_bpf_dsq_move_to_local(SHARED);
}

SEC("struct_ops.s/init")
s32 BPF_PROG(one_init)
{
	return scx_bpf_create_dsq(SHARED, -1);
}

SEC(".struct_ops.link")
struct sched_ext_ops one = {
	.select_cpu = (void *)one_select_cpu,
	.enqueue = (void *)one_enqueue,
	.dispatch = (void *)one_dispatch,
	.init = (void *)one_init,
	.name = "one",
};
