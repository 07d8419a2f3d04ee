/*
 * Walks a per-CPU array: collects the values of all CPUs in one buffer, and reads the first byte of each.
 * percpu_array TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  POINTERS COUNT VALUE_BYTES  OFFSETS CPUS
 */
#include "percpu.h"
#include "timing.h"

static uint64_t pointers, count;

static struct result walk(void)
{
	struct result result = { 0, 0 };

	for (uint64_t index = 0; index < count; index++) {
		const unsigned char *at = locate(pointers + index * 8, 8);

		if (!at)
			missing("a pointer");
		result.checksum += copy_all(u64_at(at));
		result.items += cpus;
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 5)
		return 2;
	pointers = strtoull(argv[at++], NULL, 0);
	count = strtoull(argv[at++], NULL, 0);
	open_percpu(argv + at);
	return measure(argv, walk);
}
