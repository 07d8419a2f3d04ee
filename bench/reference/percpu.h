/* Reads the values of all CPUs, each at a per-CPU address plus the CPU's offset. */
#ifndef KTSTR_BENCH_PERCPU_H
#define KTSTR_BENCH_PERCPU_H
#include "guest.h"

static uint64_t offsets[8192];
static unsigned cpus, copy_bytes;
static unsigned char *copies;

/* Parses argv: VALUE_BYTES OFFSETS CPUS. OFFSETS is the address of __per_cpu_offset. */
static void open_percpu(char **argv)
{
	uint64_t table = strtoull(argv[1], NULL, 0);

	copy_bytes = atoi(argv[0]);
	cpus = atoi(argv[2]);
	copies = malloc((size_t)cpus * copy_bytes);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		offsets[cpu] = u64_at(locate(table + 8 * cpu, 8));
}

/* Collects the values of all CPUs in one buffer, and returns the sum of their first bytes. */
static inline uint64_t copy_all(uint64_t address)
{
	uint64_t sum = 0;

	for (unsigned cpu = 0; cpu < cpus; cpu++) {
		const unsigned char *copy = locate(address + offsets[cpu], copy_bytes);

		if (!copy)
			missing("a copy");
		memcpy(copies + cpu * copy_bytes, copy, copy_bytes);
	}
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		sum += copies[cpu * copy_bytes];
	return sum;
}
#endif
