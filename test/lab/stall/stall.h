/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Types that the scheduler and its loader share. */
#ifndef LAB_STALL_H
#define LAB_STALL_H

enum stall_kind {
	HEALTHY,
	/* Tasks with one comm are never dispatched. */
	LOST_COMM,
	/* The victims are dispatched to a queue that no CPU consumes. */
	LOST_DSQ,
	/* The victims are dispatched to the local queue of the CPU that runs a long-running task. */
	PINNED,
	/* Tasks on every CPU have infinite slices. */
	SLICE_INF,
	/* ops.dispatch() of one CPU loops. */
	LOOP,
	/* The scheduler works: a SCHED_FIFO task holds the only CPU that the tasks may use. */
	RT_HOG,
	/* Like LOST_COMM, but frozen when most of the watchdog's timeout has passed. */
	NEAR,
	/* Tasks on every CPU have infinite slices, and no other task is dispatched. */
	HELD,
	/* The scheduler works: SCHED_FIFO tasks hold every CPU, so that the watchdog's worker does not run either. */
	RT_ALL,
	/* The victims stay at the end of the shared queue, after tasks that are inserted later. Hogs take turns on all CPUs. */
	STARVED,
	/* As RT_ALL, with SCHED_DEADLINE tasks. */
	DL_ALL,
	/* ops.dispatch() of one CPU kicks another one and loops within an iterator over the shared queue. */
	KICKED,
	STALL_KINDS,
};

#define MAX_VICTIMS 4
#define MAX_HOGS 64
/* The CPU of the long-running task, of the loop, and of the SCHED_FIFO task. */
#define STALL_CPU 1

struct victim {
	int pid;
	int unused;
	/* CLOCK_MONOTONIC time of the task's ops.enqueue(); 0 if it was not called since the stall began. */
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
