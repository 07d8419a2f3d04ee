/* SPDX-License-Identifier: Apache-2.0 */
/*
* lab-stall KIND TIMEOUT_MS LOOP_MS STATEMENT: attaches the scheduler, creates its tasks, which sleep, and writes them to the
 * file STATEMENT as JSON. On SIGUSR1 the stall begins: hogs start to spin, then victims are woken, and the events are written
 * to STATEMENT. It is written again when the kernel ejects the scheduler. The process keeps running and keeps its programs and
 * maps loaded.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <bpf/libbpf.h>
#include "stall.h"
#include "stall.skel.h"

#define VICTIMS 3
#ifndef SCHED_EXT
#define SCHED_EXT 7
#endif
/* kernel/sched/ext: the scheduler gets only tasks with the policy SCHED_EXT. */
#define SCX_OPS_SWITCH_PARTIAL (1 << 3)

static const char *const names[] = {
	[HEALTHY] = "healthy",	 [LOST_COMM] = "lost-comm", [LOST_DSQ] = "lost-dsq", [PINNED] = "pinned",
	[SLICE_INF] = "slice-inf", [LOOP] = "loop",	    [RT_HOG] = "rt-hog",
	[NEAR] = "near",	 [HELD] = "held",	    [RT_ALL] = "rt-all",
	[STARVED] = "starved",	 [DL_ALL] = "dl-all",	    [KICKED] = "kicked",
};

struct actor {
	int pid;
	char comm[16];
	int wake; /* Write end of the pipe that the task sleeps in. */
	int cpu;  /* The CPU that the task is bound to, or -1. */
	unsigned long long woken_ns;
};

static struct actor victims[VICTIMS];
static struct actor hogs[MAX_HOGS];
static int hog_count;
/* Of RT_HOG: a task of the scheduler, which the hog preempts. */
static struct actor spinner = { .comm = "spin-1", .cpu = STALL_CPU };
static unsigned long long began_ns;

static unsigned long long now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void set_policy(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };
	if (sched_setscheduler(0, policy, &param))
		die("sched_setscheduler %d: %m", policy);
}

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
/* `struct sched_attr` of sched_setattr(2) in its first version; libc may not have it. */
struct deadline_attr {
	unsigned int size, policy;
	unsigned long long flags;
	int nice;
	unsigned int priority;
	unsigned long long runtime_ns, deadline_ns, period_ns;
};

static void set_deadline(unsigned long long runtime_ns, unsigned long long period_ns)
{
	struct deadline_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_DEADLINE,
		.runtime_ns = runtime_ns,
		.deadline_ns = period_ns,
		.period_ns = period_ns,
	};
	if (syscall(SYS_sched_setattr, 0, &attr, 0))
		die("sched_setattr: %m");
}

/* Longer than the guest runs after the stall has begun: a hog that has used its budget would pause. */
#define HOG_PERIOD_NS 60000000000ULL
/* A shorter period than the hogs': the loader preempts them. */
#define LOADER_PERIOD_NS 2000000000ULL

/* Spins without system calls until the hog is killed. */
static void spin(void)
{
	for (volatile unsigned long long i = 0;; i++)
		;
}

enum role { VICTIM, HOG, SPINNER };

static void start(struct actor *actor, enum stall_kind kind, enum role role)
{
	int ends[2];

	if (pipe(ends))
		die("pipe: %m");
	actor->wake = ends[1];
	actor->pid = fork();
	if (actor->pid < 0)
		die("fork: %m");
	if (actor->pid > 0) {
		close(ends[0]);
		return;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, actor->comm);
	close(ends[1]);
	if (actor->cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(actor->cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			die("sched_setaffinity %d: %m", actor->cpu);
	}
	if (kind == PINNED)
		set_policy(SCHED_EXT, 0);
	if ((kind == RT_HOG || kind == RT_ALL) && role == HOG)
		set_policy(SCHED_FIFO, 50);
	char byte;
	while (read(ends[0], &byte, 1) == 1)
		if (role != VICTIM) {
			/* Here, because the limits on real-time tasks are lifted only before the stall begins. */
			if (kind == DL_ALL)
				set_deadline(HOG_PERIOD_NS, HOG_PERIOD_NS);
			spin();
		}
	_exit(0);
}

/* Number of hogs of STARVED in addition to one per CPU, so that tasks are always in the queue ahead of the victims. */
#define MORE_HOGS 4

static int hogs_of(enum stall_kind kind, int cpus)
{
	return kind == STARVED ? cpus + MORE_HOGS : cpus;
}

static void start_actors(enum stall_kind kind)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	bool on_stall_cpu = kind == LOOP || kind == KICKED || kind == RT_HOG;

	for (int i = 0; i < VICTIMS; i++) {
		victims[i].cpu = on_stall_cpu ? STALL_CPU : -1;
		snprintf(victims[i].comm, sizeof(victims[i].comm), "victim-%d", i);
		start(&victims[i], kind, VICTIM);
	}
	for (int cpu = 0; cpu < hogs_of(kind, cpus) && cpu < MAX_HOGS; cpu++) {
		if (kind != SLICE_INF && kind != HELD && kind != RT_ALL && kind != STARVED && kind != DL_ALL && !((kind == PINNED || kind == RT_HOG) && cpu == STALL_CPU))
			continue;
		struct actor *hog = &hogs[hog_count++];
		hog->cpu = kind == STARVED ? -1 : cpu;
		snprintf(hog->comm, sizeof(hog->comm), "hog-%d", cpu);
		start(hog, kind, HOG);
	}
	if (kind == RT_HOG)
		start(&spinner, kind, SPINNER);
}

static void wake(struct actor *actor)
{
	actor->woken_ns = now_ns();
	if (write(actor->wake, "!", 1) != 1)
		die("wake %s: %m", actor->comm);
}

static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fprintf(out, (unsigned char)*text < ' ' ? "\\u%04x" : "%c", (unsigned char)*text);
	fputc('"', out);
}

static void state(const char *path, enum stall_kind kind, struct stall *skel)
{
	char fresh[256];
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	FILE *out = fopen(fresh, "w");
	if (!out)
		die("%s: %m", fresh);
	fprintf(out, "{\"kind\": \"%s\", \"ops\": \"stall\", \"timeout_ms\": %u,\n", names[kind],
		skel->struct_ops.stall_ops->timeout_ms);
	fprintf(out, " \"loader_pid\": %d, \"cpu\": %d, \"shared_dsq\": \"0x%llx\", \"unconsumed_dsq\": \"0x%llx\",\n", getpid(),
		STALL_CPU, (unsigned long long)skel->rodata->shared_dsq,
		(unsigned long long)skel->rodata->unconsumed_dsq);
	fprintf(out, " \"began_ns\": %llu, \"victims\": [", began_ns);
	for (int i = 0; i < VICTIMS; i++)
		fprintf(out, "%s\n  {\"pid\": %d, \"comm\": \"%s\", \"woken_ns\": %llu, \"enqueued_ns\": %llu}", i ? "," : "",
			victims[i].pid, victims[i].comm, victims[i].woken_ns, skel->bss->victims[i].enqueued_ns);
	fprintf(out, "\n ], \"hogs\": [");
	for (int i = 0; i < hog_count; i++)
		fprintf(out, "%s\n  {\"pid\": %d, \"comm\": \"%s\", \"cpu\": %d, \"woken_ns\": %llu}", i ? "," : "",
			hogs[i].pid, hogs[i].comm, hogs[i].cpu, hogs[i].woken_ns);
	fprintf(out, "\n ], \"loop_started_ns\": %llu, \"loop_ended_ns\": %llu",
		(unsigned long long)skel->bss->loop_started_ns, (unsigned long long)skel->bss->loop_ended_ns);
	if (skel->bss->exited.kind) {
		fprintf(out, ",\n \"exit\": {\"kind\": %d, \"ns\": %llu, \"reason\": ", skel->bss->exited.kind,
			skel->bss->exited.ns);
		put_string(out, skel->bss->exited.reason);
		fprintf(out, ", \"message\": ");
		put_string(out, skel->bss->exited.message);
		fprintf(out, "}");
	}
	fprintf(out, ",\n \"stated_ns\": %llu}\n", now_ns());
	if (fclose(out) || rename(fresh, path))
		die("%s: %m", path);
}

static volatile sig_atomic_t began;
static void on_begin(int signal)
{
	(void)signal;
	began = 1;
}

/* Returns whether the scheduler works correctly during this kind of stall. */
static bool is_harmless(enum stall_kind kind)
{
	return kind == HEALTHY || kind == RT_HOG || kind == RT_ALL || kind == DL_ALL;
}

/* Returns whether all events of the statement have happened. */
static bool has_begun(enum stall_kind kind, const struct stall *skel)
{
	if ((kind == LOOP || kind == KICKED) && !skel->bss->loop_started_ns)
		return false;
	/* A working scheduler can queue victims on an idle CPU without ops.enqueue(). */
	for (int i = 0; !is_harmless(kind) && i < VICTIMS; i++)
		if (!skel->bss->victims[i].enqueued_ns)
			return false;
	return true;
}

static void begin(enum stall_kind kind, struct stall *skel)
{
	began_ns = now_ns();
	if (!is_harmless(kind))
		skel->bss->stalling = true;
	if (kind == RT_HOG) {
		wake(&spinner);
		usleep(300000);
	}
	skel->bss->hogs_woken_ns = began_ns;
	for (int i = 0; i < hog_count; i++)
		wake(&hogs[i]);
	if (hog_count)
		usleep(300000);
	for (int i = 0; i < VICTIMS; i++)
		wake(&victims[i]);
	skel->bss->all_woken_ns = now_ns();
	for (int tries = 0; tries < 50 && !has_begun(kind, skel); tries++)
		usleep(20000);
}

int main(int argc, char **argv)
{
	enum stall_kind kind = HEALTHY;

	if (argc != 5)
		die("usage: lab-stall KIND TIMEOUT_MS LOOP_MS STATEMENT");
	while (kind < STALL_KINDS && strcmp(names[kind], argv[1]))
		kind++;
	if (kind == STALL_KINDS)
		die("no kind %s", argv[1]);
	struct stall *skel = stall__open();
	if (!skel)
		die("open: %m");
	skel->rodata->kind = kind;
	skel->rodata->loop_ns = strtoull(argv[3], NULL, 10) * 1000000;
	skel->struct_ops.stall_ops->timeout_ms = strtoul(argv[2], NULL, 10);
	/* If a task never yields its CPU, other tasks on that CPU need a higher scheduling class. */
	if (kind == PINNED)
		skel->struct_ops.stall_ops->flags = SCX_OPS_SWITCH_PARTIAL;
	if (stall__load(skel))
		die("load: %m");
	signal(SIGUSR1, on_begin);
	start_actors(kind);
	for (int i = 0; i < VICTIMS; i++)
		skel->bss->victims[i].pid = victims[i].pid;
	if (!bpf_map__attach_struct_ops(skel->maps.stall_ops))
		die("attach: %m");
	state(argv[4], kind, skel);
	while (!began)
		usleep(50000);
	/* A higher class than the hogs', which would otherwise keep this process from waking the victims. */
	if (kind == RT_HOG || kind == HELD || kind == RT_ALL)
		set_policy(SCHED_FIFO, 60);
	if (kind == DL_ALL)
		set_deadline(LOADER_PERIOD_NS / 2, LOADER_PERIOD_NS);
	begin(kind, skel);
	state(argv[4], kind, skel);
	/* A hog that other tasks interrupt does not run all the time. */
	while (kind != HELD && kind != RT_ALL && kind != DL_ALL && !skel->bss->exited.kind)
		usleep(50000);
	if (skel->bss->exited.kind)
		state(argv[4], kind, skel);
	for (;;)
		pause();
}
