/* Prints the output that every reference has: "ITEMS CHECKSUM", then the nanoseconds of each repetition, one per line. */
#ifndef KTSTR_BENCH_TIMING_H
#define KTSTR_BENCH_TIMING_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct result {
	uint64_t items;
	uint32_t checksum;
};

/* Returns the elapsed time. ../measure.ts explains why CPU time is not used. */
static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Parses argv: TIMES LOOPS .... The first repetition runs the job once, the others LOOPS times. */
static int measure(char **argv, struct result (*run)(void))
{
	int times = atoi(argv[1]), loops = atoi(argv[2]);
	double *ns = calloc(times, sizeof(*ns));
	struct result result = { 0, 0 };

	for (int i = 0; i < times; i++) {
		int count = i == 0 ? 1 : loops;
		double start = now_ns();

		for (int loop = 0; loop < count; loop++)
			result = run();
		ns[i] = (now_ns() - start) / count;
	}
	printf("%lu %u\n", (unsigned long)result.items, result.checksum);
	for (int i = 0; i < times; i++)
		printf("%.0f\n", ns[i]);
	return 0;
}
#endif
