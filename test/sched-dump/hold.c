/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds every CPU with a SCHED_FIFO task, so that no task of sched_ext runs and its queues do not change. After SETTLE_S seconds,
 * requests the kernel's dump (SysRq-D), and writes "held" to the console. Holds the CPUs until SECONDS have passed since the
 * start.
 *
 *     lab-hold SECONDS
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_S 3

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec at;

	if (clock_gettime(CLOCK_MONOTONIC, &at))
		die("clock_gettime");
	return at.tv_sec + at.tv_nsec / 1e9;
}

static void spin_until(double end)
{
	while (now() < end)
		;
}

static void hold(int cpu)
{
	struct sched_param param = { .sched_priority = 50 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("sched_setscheduler");
}

int main(int argc, char **argv)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int trigger = open("/proc/sysrq-trigger", O_WRONLY);
	int console = open("/dev/console", O_WRONLY | O_NOCTTY);
	double end = now() + (argc > 1 ? atof(argv[1]) : 0);
	atomic_int *holding = mmap(NULL, sizeof(*holding), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (trigger < 0 || console < 0 || holding == MAP_FAILED)
		die("prepare");
	for (int cpu = 1; cpu < cpus; cpu++) {
		int pid = fork();

		if (pid < 0)
			die("fork");
		if (pid > 0)
			continue;
		hold(cpu);
		atomic_fetch_add(holding, 1);
		spin_until(end);
		_exit(0);
	}
	/* The others are scheduled until they hold their CPUs, by scx_central from this one. */
	while (atomic_load(holding) < cpus - 1) {
		if (now() > end) {
			fputs("not every CPU could be held\n", stderr);
			exit(1);
		}
		usleep(1000);
	}
	hold(0);
	spin_until(now() + SETTLE_S);
	if (write(trigger, "D", 1) != 1)
		die("SysRq-D");
	if (write(console, "held\n", 5) != 5)
		die("console");
	spin_until(end);
	while (wait(NULL) > 0)
		;
	return 0;
}
