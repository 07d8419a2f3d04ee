/* SPDX-License-Identifier: Apache-2.0 */
/* Ring buffers with unread records, perf event arrays, stack traces. */
#include "zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

EMBEDDED(rings);
static struct bpf_object *object;

/* libbpf's side of the user ring buffer, open until the loader ends. */
static struct user_ring_buffer *user_ring;
static int loader;

struct request {
	__u32 size, seed, discard, wrapped;
	__u64 stuck;
};

static void produce(int prog, struct request r)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &r, .ctx_size_in = sizeof(r));
	if (bpf_prog_test_run_opts(prog, &run) || run.retval)
		die("z_ring_fill: %m, returned %u", run.retval);
}

static void record(unsigned size, unsigned seed)
{
	unsigned char bytes[256];
	pattern(bytes, size, seed);
	map_record(bytes, size, NULL);
}

/* Five records and a discarded one between them. None is consumed. */
static unsigned unread(struct bpf_object *o, int prog)
{
	static const unsigned sizes[] = { 1, 8, 13, 100, 256 };
	int fd = object_map(o, "z_ring");
	if (fd < 0)
		return 0;
	map_open(fd, "records", NULL);
	for (unsigned i = 0; i < 5; i++) {
		produce(prog, (struct request){ .size = sizes[i], .seed = 50 * i });
		record(sizes[i], 50 * i);
		if (i == 2) {
			unsigned char gone[40];
			memset(gone, 0xdd, sizeof(gone));
			produce(prog, (struct request){ .size = 40, .discard = 1 });
			map_record(gone, sizeof(gone), "\"note\":\"discarded\"");
		}
	}
	map_close();
	return 6;
}

/* A page that is never provided: userfaultfd receives the fault and does not handle it. */
static void *bottomless(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	void *page = mmap(NULL, zoo.page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_register range = { { (unsigned long)page, (unsigned long)zoo.page_size }, UFFDIO_REGISTER_MODE_MISSING, 0 };
	return uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range) ? NULL : page;
}

static int sleeper;

static void wake(void)
{
	if (getpid() == loader)
		kill(sleeper, SIGKILL);
}

/*
* The loader's exit detaches programs and waits for a grace period, which does not end while the sleeper sleeps. So the
 * sleeper must be killed first. If the loader is killed, it does not call wake(): a guard process detects that the loader's
 * memory is freed, which happens before its files are closed.
 */
static void guard(void)
{
	int child = fork();
	if (child < 0)
		die("fork: %m");
	if (child)
		return;
	char path[64], exe[8];
	snprintf(path, sizeof(path), "/proc/%d/exe", loader);
	prctl(PR_SET_NAME, "zoo-guard");
	close_range(0, ~0u, 0);
	while (readlink(path, exe, sizeof(exe)) >= 0)
		usleep(50000);
	kill(sleeper, SIGKILL);
	_exit(0);
}

static bool hold_for_ever(int prog)
{
	int ready[2];
	if (pipe2(ready, O_CLOEXEC))
		die("pipe2: %m");
	loader = getpid();
	sleeper = fork();
	if (sleeper < 0)
		die("fork: %m");
	if (!sleeper) {
		prctl(PR_SET_NAME, "zoo-holder");
		struct request r = { .stuck = (unsigned long)bottomless() };
		LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &r, .ctx_size_in = sizeof(r));
		char word = r.stuck ? 'y' : 'n';
		if (write(ready[1], &word, 1) == 1 && r.stuck) {
			for (int fd = 0; fd < 3; fd++)
				close(fd);
			bpf_prog_test_run_opts(prog, &run);
		}
		_exit(0);
	}
	atexit(wake);
	guard();
	char word = 'n', path[64], state = 'R';
	if (read(ready[0], &word, 1) != 1 || word != 'y') {
		answer_skip("other", "z_ring_busy", "no userfaultfd");
		return false;
	}
	/* The record does not change after the fault has put the program to sleep. */
	snprintf(path, sizeof(path), "/proc/%d/wchan", sleeper);
	for (int tries = 0; tries < 300; tries++) {
		char where[64] = "";
		FILE *f = fopen(path, "r");
		if (f && fgets(where, sizeof(where), f) && strstr(where, "userfault"))
			state = 'S';
		if (f)
			fclose(f);
		if (state == 'S')
			return true;
		usleep(10000);
	}
	answer_skip("other", "z_ring_busy", "the program did not fall asleep");
	return false;
}

static int swallow(void *context, void *data, size_t size)
{
	(void)context, (void)data, (void)size;
	return 0;
}

/*
 * 300 records of 256 (with their header 264) bytes, the first 240 consumed: the ring of 64 KiB has wrapped, and
* the last records extend over its end.
 */
static unsigned wrapped(struct bpf_object *o, int prog)
{
	enum { MADE = 300, READ = 240, SIZE = 256 };
	int fd = object_map(o, "z_ring_wrapped");
	if (fd < 0)
		return 0;
	struct ring_buffer *reader = ring_buffer__new(fd, swallow, NULL, NULL);
	if (!reader)
		die("ring_buffer__new: %m");
	for (unsigned i = 0; i < MADE; i++) {
		if (i == READ)
			ring_buffer__consume(reader);
		else if (i % 100 == 99 && i < READ)
			ring_buffer__consume(reader);
		produce(prog, (struct request){ .size = SIZE, .seed = i, .wrapped = 1 });
	}
	ring_buffer__free(reader);
	map_open(fd, "records", NULL);
	for (unsigned i = READ; i < MADE; i++)
		record(SIZE, i);
	map_close();
	return MADE;
}

/*
* Runs a program that sleeps between reserve and submit: a child runs it, and it waits for a page that is never provided.
 * While it sleeps, no RCU tasks-trace grace period ends: freed programs and maps stay in memory, and detaching some programs
 * does not return. So this is done last, and only on request.
 */
void show_held_record(void)
{
	struct bpf_object *o = object;
	int fd = object_map(o, "z_ring_busy"), prog = object_prog(o, "z_ring_hold"), filler = object_prog(o, "z_ring_fill");
	if (fd < 0 || prog < 0 || filler < 0)
		return;
	map_open(fd, "records", NULL);
	if (zoo.busy_record && hold_for_ever(prog)) {
		unsigned char busy[24];
		memset(busy, 0xbb, sizeof(busy));
		map_record(busy, sizeof(busy), "\"note\":\"busy\"");
	}
	map_close();
}

static void from_user(struct bpf_object *o)
{
	int fd = object_map(o, "z_user_ring");
	if (fd < 0)
		return;
	user_ring = user_ring_buffer__new(fd, NULL);
	if (!user_ring)
		die("user_ring_buffer__new: %m");
	map_open(fd, "records", NULL);
	for (unsigned i = 0; i < 4; i++) {
		unsigned size = 10 + 7 * i;
		void *sample = user_ring_buffer__reserve(user_ring, size);
		if (!sample)
			die("user_ring_buffer__reserve: %m");
		pattern(sample, size, 90 + i);
		map_record(sample, size, i == 2 ? "\"note\":\"discarded\"" : NULL);
		if (i == 2)
			user_ring_buffer__discard(user_ring, sample);
		else
			user_ring_buffer__submit(user_ring, sample);
	}
	map_close();
}

/* One software event per CPU. bpf(2) returns no values, so the answer has only the keys. */
static void perf_events(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_PERF_EVENT_ARRAY, "z_perf_events", 4, 4, zoo.cpus + 1 });
	if (fd < 0)
		return;
	map_open(fd, "keys", NULL);
	for (int cpu = 0; cpu < zoo.cpus; cpu++) {
		struct perf_event_attr attr = {
			.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_BPF_OUTPUT, .sample_type = PERF_SAMPLE_RAW,
		};
		int event = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
		/* An offline CPU has no event. */
		if (event >= 0 && !bpf_map_update_elem(fd, &cpu, &event, BPF_ANY))
			map_entry(&cpu, 4, "", 0, NULL);
	}
	map_close();
}

/* A few system calls of the loader. The program is detached before the answers, so that the map does not change. */
static void stacks(struct bpf_object *o)
{
	int fd = object_map(o, "z_stacks"), prog = object_prog(o, "z_stack_taker");
	if (fd < 0 || prog < 0)
		return;
	int link = bpf_raw_tracepoint_open("sys_enter", prog);
	if (link < 0) {
		answer_skip("link", "z_stack_taker", strerror(errno));
		return;
	}
	for (int i = 0; i < 20; i++) {
		syscall(SYS_getppid);
		syscall(SYS_getpgid, 0);
	}
	close(link);
	map_open(fd, "entries", NULL);
	answer_survivors(fd, 4, 20 * 8, false);
	map_close();
	/* Not exact: the number of calls depends on the C library. */
	answer_prog(prog, 40, false);
}

static void tell_pid(struct bpf_object *o)
{
	struct bpf_map *m;
	bpf_object__for_each_map(m, o) {
		size_t size;
		if (strstr(bpf_map__name(m), ".rodata"))
			*(__u32 *)bpf_map__initial_value(m, &size) = (__u32)getpid();
	}
}

void show_rings(void)
{
	struct bpf_object *o = object = object_load(&rings, tell_pid);
	int prog = object_prog(o, "z_ring_fill");
	if (prog >= 0) {
		unsigned runs = unread(o, prog);
		runs += wrapped(o, prog);
		answer_prog(prog, runs, true);
	}
	int empty = object_map(o, "z_ring_empty");
	if (empty >= 0) {
		map_open(empty, "records", NULL);
		map_close();
	}
	from_user(o);
	stacks(o);
	perf_events();
	for (int i = 0; i < 2; i++) {
		int idle = object_prog(o, i ? "z_user_drain" : "z_ring_hold");
		if (idle >= 0)
			answer_prog(idle, 0, true); /* a run is counted when it ends, and this one has not ended */
	}
	answer_sections(o);
}
