// Tasks, control groups, CPU masks and iterators: references that must be released, and loops that the verifier follows.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct held {
	struct bpf_cpumask __kptr *mask;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct held);
} masks SEC(".maps");

int threads, cpus, even;
u64 cgroup_id;

SEC("syscall")
int count_tasks(void *ctx)
{
	struct task_struct *task;
	struct bpf_iter_task it;
	struct cgroup *root;

	task = bpf_task_from_pid(1);
	if (!task)
		return 1;
	bpf_task_release(task);

	root = bpf_cgroup_from_id(1);
	if (root) {
		cgroup_id = root->kn->id;
		bpf_cgroup_release(root);
	}

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, NULL, BPF_TASK_ITER_ALL_THREADS);
	while (bpf_iter_task_next(&it))
		threads++;
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("syscall")
int count_cpus(void *ctx)
{
	struct bpf_cpumask *mask = bpf_cpumask_create(), *before;
	struct bpf_iter_num it;
	struct held *held;
	int zero = 0, *i;

	if (!mask)
		return 1;
	bpf_cpumask_setall(mask);
	cpus = bpf_cpumask_weight((const struct cpumask *)mask);
	bpf_cpumask_clear_cpu(bpf_cpumask_first((const struct cpumask *)mask), mask);

	bpf_iter_num_new(&it, 0, 10);
	while ((i = bpf_iter_num_next(&it)))
		if (!(*i & 1))
			even++;
	bpf_iter_num_destroy(&it);

	held = bpf_map_lookup_elem(&masks, &zero);
	if (!held) {
		bpf_cpumask_release(mask);
		return 1;
	}
	before = bpf_kptr_xchg(&held->mask, mask);
	if (before)
		bpf_cpumask_release(before);
	return 0;
}
