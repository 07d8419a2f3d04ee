/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
* A FIFO scheduler with one shared queue. It runs all tasks until its loader sets `stalling`. From then on `kind` selects how
 * it treats tasks whose comm starts with "victim" or "hog". It still runs all other tasks, so that the guest answers.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "stall.h"

char _license[] SEC("license") = "GPL";

const volatile enum stall_kind kind = HEALTHY;
const volatile __u64 shared_dsq = 0x5ced0;
const volatile __u64 unconsumed_dsq = 0xdead0;
const volatile __u64 loop_ns = 20000000000ULL;

bool stalling;
/* Time of the kernel's last call of an operation: on a frozen machine, the time of the freeze. */
__u64 last_ns;
struct victim victims[MAX_VICTIMS];
/* CLOCK_MONOTONIC, by the loader: before it woke the hogs, and after it woke the victims, which may interrupt a hog. */
__u64 hogs_woken_ns;
__u64 all_woken_ns;
__u64 releases;
__u64 loop_started_ns;
__u64 loop_ended_ns;
struct exit_record exited;

/* The longest slice that is not infinite, for the long-running task of PINNED. */
#define LONG_SLICE_NS 600000000000ULL

static bool is_victim(const struct task_struct *p)
{
	return p->comm[0] == 'v' && p->comm[1] == 'i' && p->comm[2] == 'c' && p->comm[3] == 't';
}

static bool is_hog(const struct task_struct *p)
{
	return p->comm[0] == 'h' && p->comm[1] == 'o' && p->comm[2] == 'g' && p->comm[3] == '-';
}

static void note_victim(const struct task_struct *p)
{
	for (int i = 0; i < MAX_VICTIMS; i++)
		if (victims[i].pid == p->pid && !victims[i].enqueued_ns)
			victims[i].enqueued_ns = bpf_ktime_get_ns();
}

SEC("struct_ops/stall_select_cpu")
s32 BPF_PROG(stall_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	bool is_idle = false;
	s32 cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &is_idle);

	/* If the task is not inserted into a queue here, the kernel calls ops.enqueue(). */
	if (is_idle && !(stalling && (is_victim(p) || is_hog(p))))
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, SCX_SLICE_DFL, 0);
	return cpu;
}

/* A virtual time after that of all other tasks, which have 0 and are served in the order of their insertion. */
#define LATE_VTIME (1ULL << 40)

/* A queue is either FIFO or ordered by virtual time: of STARVED, always the latter. */
static void insert_shared(struct task_struct *p, u64 vtime, u64 enq_flags)
{
	if (kind == STARVED)
		scx_bpf_dsq_insert_vtime(p, shared_dsq, SCX_SLICE_DFL, vtime, enq_flags);
	else
		scx_bpf_dsq_insert(p, shared_dsq, SCX_SLICE_DFL, enq_flags);
}

static void enqueue_victim(struct task_struct *p, u64 enq_flags)
{
	note_victim(p);
	switch (kind) {
	case LOST_COMM:
	case NEAR:
		return;
	case LOST_DSQ:
		scx_bpf_dsq_insert(p, unconsumed_dsq, SCX_SLICE_DFL, enq_flags);
		return;
	case PINNED:
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL_ON | STALL_CPU, SCX_SLICE_DFL, enq_flags);
		return;
	default:
		insert_shared(p, LATE_VTIME, enq_flags);
	}
}

SEC("struct_ops/stall_enqueue")
void BPF_PROG(stall_enqueue, struct task_struct *p, u64 enq_flags)
{
	if (stalling && is_victim(p)) {
		enqueue_victim(p, enq_flags);
	} else if (stalling && is_hog(p) && kind != STARVED) {
		u64 slice = kind == SLICE_INF || kind == HELD ? SCX_SLICE_INF : LONG_SLICE_NS;
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, slice, enq_flags);
	} else if (stalling && kind == SLICE_INF) {
		/* Queued before the hog of that CPU. The victims wait in the shared queue. */
		u64 ahead = bpf_core_enum_value(enum scx_enq_flags, SCX_ENQ_HEAD) |
			    bpf_core_enum_value(enum scx_enq_flags, SCX_ENQ_PREEMPT);
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, SCX_SLICE_DFL, enq_flags | ahead);
	} else {
		insert_shared(p, 0, enq_flags);
	}
}

static long inner_loop(u64 index, void *context)
{
	return bpf_ktime_get_ns() - loop_started_ns > loop_ns;
}

static long outer_loop(u64 index, void *context)
{
	bpf_loop(1 << 20, inner_loop, NULL, 0);
	return bpf_ktime_get_ns() - loop_started_ns > loop_ns;
}

/* Loops until the time is over, or for 2^43 rounds, the most that the verifier accepts. */
static void loop(void)
{
	loop_started_ns = bpf_ktime_get_ns();
	bpf_loop(1 << 23, outer_loop, NULL, 0);
	loop_ended_ns = bpf_ktime_get_ns();
}

SEC("struct_ops/stall_dispatch")
void BPF_PROG(stall_dispatch, s32 cpu, struct task_struct *prev)
{
	last_ns = bpf_ktime_get_ns();
	if (kind == LOOP && stalling && cpu == STALL_CPU && !loop_started_ns)
		loop();
	if (kind == KICKED && stalling && cpu == STALL_CPU && !loop_started_ns) {
		struct task_struct *first;

		/* During the loop, the iterator's cursor is in the queue, and the kick is pending because interrupts are off. */
		bpf_for_each(scx_dsq, first, shared_dsq, 0) {
			scx_bpf_kick_cpu(0, SCX_KICK_PREEMPT);
			loop();
			break;
		}
	}
	scx_bpf_dsq_move_to_local(shared_dsq);
}

/* ops.tick(): called also while a CPU runs one task all the time. */
SEC("struct_ops/stall_tick")
void BPF_PROG(stall_tick, struct task_struct *p)
{
	last_ns = bpf_ktime_get_ns();
}

/* The kernel notes in `scx_rq.cpu_released` that a task of a higher class took the CPU only for schedulers with this callback. */
SEC("struct_ops/stall_cpu_release")
void BPF_PROG(stall_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	releases++;
}

SEC("struct_ops.s/stall_init")
s32 BPF_PROG(stall_init)
{
	s32 status = scx_bpf_create_dsq(shared_dsq, -1);

	return status ? status : scx_bpf_create_dsq(unconsumed_dsq, -1);
}

SEC("struct_ops/stall_exit")
void BPF_PROG(stall_exit, struct scx_exit_info *info)
{
	bpf_probe_read_kernel_str(exited.reason, sizeof(exited.reason), info->reason);
	bpf_probe_read_kernel_str(exited.message, sizeof(exited.message), info->msg);
	exited.ns = bpf_ktime_get_ns();
	exited.kind = info->kind;
}

SEC(".struct_ops.link")
struct sched_ext_ops stall_ops = {
	.select_cpu = (void *)stall_select_cpu,
	.enqueue = (void *)stall_enqueue,
	.dispatch = (void *)stall_dispatch,
	.tick = (void *)stall_tick,
	.cpu_release = (void *)stall_cpu_release,
	.init = (void *)stall_init,
	.exit = (void *)stall_exit,
	.name = "stall",
};
