/* SPDX-License-Identifier: Apache-2.0 */
/* Tracing programs: a link of every type that this kernel has. The number of runs is known if only the loader causes them. */
#include "zoo.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

EMBEDDED(trace);
static struct bpf_object *object;

/* The function that uprobes are attached to. */
__attribute__((noinline)) int zoo_uprobe_target(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static struct bpf_program *loaded(const char *name)
{
	return object_prog(object, name) < 0 ? NULL : bpf_object__find_program_by_name(object, name);
}

/* Adds a link to the answers, or the error if there is none. */
static bool tell(const char *name, struct bpf_link *link, const char *extra)
{
	if (!link || bpf_link__fd(link) < 0) {
		answer_skip("link", name, strerror(errno));
		return false;
	}
	/* Before 5.15 the kernel has no links for perf events, and libbpf attaches without one. */
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	if (!bpf_link_get_info_by_fd(bpf_link__fd(link), &info, &len))
		answer_link(bpf_link__fd(link), extra);
	return true;
}

static void automatic(const char *name)
{
	struct bpf_program *p = loaded(name);
	if (p)
		tell(name, bpf_program__attach(p), NULL);
}

static void uprobes(void)
{
	struct bpf_program *p = loaded("z_uprobe");
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .func_name = "zoo_uprobe_target");
	if (p)
		tell("z_uprobe", bpf_program__attach_uprobe_opts(p, getpid(), "/proc/self/exe", 0, &opts), NULL);
	p = loaded("z_uprobe_multi");
	if (p)
		tell("z_uprobe_multi", bpf_program__attach_uprobe_multi(p, getpid(), "/proc/self/exe", "zoo_uprobe_target", NULL), NULL);
}

static void kprobe_multi(void)
{
	static const char *const syms[] = { "vfs_read", "vfs_write" };
	static const __u64 cookies[] = { 11, 22 };
	LIBBPF_OPTS(bpf_kprobe_multi_opts, opts, .syms = (const char **)syms, .cookies = cookies, .cnt = 2);
	struct bpf_program *p = loaded("z_kprobe_multi");
	if (p)
		tell("z_kprobe_multi", bpf_program__attach_kprobe_multi_opts(p, NULL, &opts), "\"func_cnt\":2");
}

static void perf_event(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK, .sample_freq = 20, .freq = 1,
	};
	struct bpf_program *p = loaded("z_perf_event");
	int fd = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (p && fd >= 0)
		tell("z_perf_event", bpf_program__attach_perf_event(p, fd), NULL);
}

static void iterators(void)
{
	automatic("z_iter_task");
	automatic("z_iter_map");
	struct bpf_program *p = loaded("z_iter_elem");
	union bpf_iter_link_info which = {};
	int map = object_map(object, "z_moving_lru");
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &which, .link_info_len = sizeof(which));
	which.map.map_fd = (__u32)map;
	if (p && map >= 0)
		tell("z_iter_elem", bpf_program__attach_iter(p, &opts), NULL);
}

/* bpf_prog_test_run on an fentry program calls bpf_fentry_test1 and bpf_modify_return_test once each (net/bpf/test_run.c). */
static __u64 run_tests(void)
{
	enum { TIMES = 25 };
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int fd = object_prog(object, "z_fentry");
	if (fd < 0)
		return 0;
	for (int i = 0; i < TIMES; i++)
		if (bpf_prog_test_run_opts(fd, &run))
			die("z_fentry: test run: %m");
	return TIMES;
}

static void moving_maps(void)
{
	static const char *const names[] = { "z_events", "z_moving_lru" };
	for (int i = 0; i < 2; i++) {
		int fd = object_map(object, names[i]);
		if (fd < 0)
			continue;
		map_open(fd, i ? "entries" : "percpu", "programs on sched_switch and other events write to it");
		map_field("\"bounds\":%s", i ? "{\"entries_max\":64}" : "{\"entries\":16,\"each_cpu_only_grows\":true}");
		map_close();
	}
}

void show_trace(void)
{
	static const char *const by_section[] = { "z_raw_tp", "z_tp_btf", "z_tracepoint", "z_kprobe", "z_kretprobe", "z_fentry",
						   "z_fexit", "z_lsm", "z_raw_tp_writable" };
	object = object_load(&trace, NULL);
	if (!object)
		return;
	for (size_t i = 0; i < sizeof(by_section) / sizeof(by_section[0]); i++)
		automatic(by_section[i]);
	uprobes();
	kprobe_multi();
	perf_event();
	iterators();
	struct bpf_program *on_group = loaded("z_lsm_cgroup");
	if (on_group && group_count)
		tell("z_lsm_cgroup", bpf_program__attach_cgroup(on_group, groups[0].fd), NULL);
	__u64 runs = run_tests();
	struct bpf_program *p;
	bpf_object__for_each_program(p, object) {
		const char *name = bpf_program__name(p);
		bool exact = !strcmp(name, "z_fentry") || !strcmp(name, "z_fexit");
		if (bpf_program__fd(p) > 0)
			answer_prog(bpf_program__fd(p), exact ? runs : 0, exact);
	}
	moving_maps();
}

/* Causes runs of the programs whose counters change. Called once per tick while the loader runs. */
void stir_trace(void)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int fd = object_prog(object, "z_syscall");
	for (int i = 0; i < 10; i++) {
		zoo_uprobe_target(i);
		syscall(SYS_getpgid, 0);
		if (fd >= 0)
			bpf_prog_test_run_opts(fd, &run);
	}
}
