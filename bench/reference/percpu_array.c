/*
 * Every element of a per-CPU array, all CPUs' copies put side by side: the first byte of each copy is looked at.
 * percpu_array TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  POINTERS COUNT VALUE_BYTES  OFFSETS CPUS
 */
#include "guest.h"
#include "timing.h"

static uint64_t pointers, count, offsets[8192];
static unsigned value_bytes, cpus;
static unsigned char *copies;

static struct result walk(void)
{
	struct result result = { 0, 0 };

	for (uint64_t index = 0; index < count; index++) {
		const unsigned char *at = locate(pointers + index * 8, 8);
		uint64_t address;

		if (!at)
			missing("a pointer");
		address = u64_at(at);
		for (unsigned cpu = 0; cpu < cpus; cpu++) {
			const unsigned char *copy = locate(address + offsets[cpu], value_bytes);

			if (!copy)
				missing("a copy");
			memcpy(copies + cpu * value_bytes, copy, value_bytes);
		}
		for (unsigned cpu = 0; cpu < cpus; cpu++)
			result.checksum += copies[cpu * value_bytes];
		result.items += cpus;
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);
	uint64_t table;

	if (argc < at + 5)
		return 2;
	pointers = strtoull(argv[at++], NULL, 0);
	count = strtoull(argv[at++], NULL, 0);
	value_bytes = atoi(argv[at++]);
	table = strtoull(argv[at++], NULL, 0);
	cpus = atoi(argv[at++]);
	copies = malloc((size_t)cpus * value_bytes);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		offsets[cpu] = u64_at(locate(table + 8 * cpu, 8));
	return measure(argv, walk);
}
