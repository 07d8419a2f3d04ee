/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* What the scheduler and its loader share. */
#ifndef LAB_STALL_H
#define LAB_STALL_H

enum stall_kind {
	HEALTHY,
	/* Tasks of one comm are never dispatched. */
	LOST_COMM,
	/* They are dispatched to a queue that no CPU consumes. */
	LOST_DSQ,
	/* They are put on the local queue of the one CPU that runs a long task. */
	PINNED,
	/* Tasks on every CPU have infinite slices. */
	SLICE_INF,
	/* ops.dispatch() of one CPU loops. */
	LOOP,
	/* The scheduler is healthy: a SCHED_FIFO task holds the only CPU that the tasks may use. */
	RT_HOG,
	/* As LOST_COMM; frozen when most of the watchdog's timeout has passed. */
	NEAR,
	/* Tasks on every CPU have infinite slices, and nobody is served beside them. */
	HELD,
	/* The scheduler is healthy: SCHED_FIFO tasks hold every CPU, also from the watchdog's worker. */
	RT_ALL,
	/* Tasks go to the end of the shared queue, behind tasks that come later: hogs take turns on all CPUs. */
	STARVED,
	/* As RT_ALL, with SCHED_DEADLINE tasks. */
	DL_ALL,
	STALL_KINDS,
};

#define MAX_VICTIMS 4
#define MAX_HOGS 64
/* The CPU of the long task, of the loop, of the SCHED_FIFO task. */
#define STALL_CPU 1

struct victim {
	int pid;
	int unused;
	/* CLOCK_MONOTONIC, by the scheduler: when it was asked to queue the task; 0: not since the stall began. */
	unsigned long long enqueued_ns;
};

struct exit_record {
	int kind;
	int unused;
	unsigned long long ns;
	char reason[128];
	char message[256];
};

#endif
