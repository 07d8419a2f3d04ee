/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Tracing programs with every kind of attachment. Counters are per-CPU or atomic, so that their sums have known bounds. */
#include "zoo_bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} z_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} z_moving_lru SEC(".maps");

struct task_struct {
	int pid;
	int tgid;
} KERNEL_TYPE;

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id, seq_num;
} KERNEL_TYPE;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL_TYPE;
struct bpf_map;
struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
} KERNEL_TYPE;
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key, *value;
} KERNEL_TYPE;

static __always_inline int count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&z_events, &which);
	if (n)
		*n += 1;
	return 0;
}

SEC("raw_tp/sys_enter")
int z_raw_tp(void *ctx)
{
	return count(0);
}

SEC("tp_btf/sched_switch")
int z_tp_btf(void *ctx)
{
	__u32 pid = (__u32)bpf_get_current_pid_tgid();
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&z_moving_lru, &pid, &now, BPF_ANY);
	return count(1);
}

SEC("tracepoint/sched/sched_process_fork")
int z_tracepoint(void *ctx)
{
	return count(2);
}

SEC("ksyscall/getpgid")
int z_kprobe(void *ctx)
{
	return count(3);
}

SEC("kretsyscall/getpgid")
int z_kretprobe(void *ctx)
{
	return count(4);
}

SEC("kprobe.multi")
int z_kprobe_multi(void *ctx)
{
	return count(5);
}

SEC("uprobe")
int z_uprobe(void *ctx)
{
	return count(6);
}

SEC("uprobe.multi")
int z_uprobe_multi(void *ctx)
{
	return count(7);
}

SEC("fentry/bpf_fentry_test1")
int z_fentry(void *ctx)
{
	return count(8);
}

SEC("fexit/bpf_fentry_test1")
int z_fexit(void *ctx)
{
	return count(9);
}

SEC("fmod_ret/bpf_modify_return_test")
int z_fmod_ret(void *ctx)
{
	count(10);
	return 0;
}

SEC("lsm/file_open")
int z_lsm(void *ctx)
{
	count(11);
	return 0;
}

SEC("lsm_cgroup/socket_create")
int z_lsm_cgroup(void *ctx)
{
	return 1;
}

SEC("perf_event")
int z_perf_event(void *ctx)
{
	return count(12);
}

SEC("iter/task")
int z_iter_task(struct bpf_iter__task *ctx)
{
	return ctx->task ? count(13) : 0;
}

SEC("iter/bpf_map")
int z_iter_map(struct bpf_iter__bpf_map *ctx)
{
	return 0;
}

SEC("iter/bpf_map_elem")
int z_iter_elem(struct bpf_iter__bpf_map_elem *ctx)
{
	return 0;
}

SEC("syscall")
int z_syscall(void *ctx)
{
	return count(14);
}

SEC("raw_tracepoint.w/bpf_test_finish")
int z_raw_tp_writable(void *ctx)
{
	return count(15);
}
