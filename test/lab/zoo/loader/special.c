/* SPDX-License-Identifier: Apache-2.0 */
/* Values with a lock, an armed timer and a pointer to a task. The answers are the bytes from bpf(2): zeros for the first two. */
#include "zoo.h"

#include <string.h>
#include <unistd.h>

EMBEDDED(special);

struct locked {
	__u32 before, lock;
	__u64 after;
};
struct timed {
	__u64 before, timer[2], after;
};
struct pointing {
	__u64 before, task, after;
};

void show_special(void)
{
	struct bpf_object *o = object_load(&special, NULL);
	int fd = object_map(o, "z_spin_lock"), prog = object_prog(o, "z_special");
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		for (__u32 i = 0; i < 2; i++)
			put(fd, &i, 4, &(struct locked){ 10 + i, 0, 20 + i }, sizeof(struct locked), NULL);
		map_close();
	}
	fd = object_map(o, "z_timer");
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		map_field("\"armed_key\":1");
		for (__u32 i = 0; i < 2; i++)
			put(fd, &i, 4, &(struct timed){ 30 + i, { 0, 0 }, 40 + i }, sizeof(struct timed), NULL);
		map_close();
	}
	int pointing = object_map(o, "z_kptr");
	for (__u32 i = 0; pointing >= 0 && i < 2; i++)
		if (bpf_map_update_elem(pointing, &i, &(struct pointing){ 50 + i, 0, 60 + i }, BPF_ANY))
			die("z_kptr: %m");
	if (prog >= 0) {
		LIBBPF_OPTS(bpf_test_run_opts, run);
		if (bpf_prog_test_run_opts(prog, &run) || run.retval)
			die("z_special: %m, returned %u", run.retval);
		answer_prog(prog, 1, true);
	}
	if (pointing < 0)
		return;
	/* Some kernels hide the pointer from bpf(2), so the value is read back. */
	map_open(pointing, "entries", NULL);
	map_field("\"pointer\":{\"key\":1,\"offset\":8,\"pid\":%d}", getpid());
	answer_survivors(pointing, 4, sizeof(struct pointing), false);
	map_close();
}
