/*
 * Every element of a per-CPU hash, bucket by bucket, all CPUs' copies put side by side: the first byte of each copy is
 * looked at.
 * percpu_hash TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  BUCKETS COUNT BUCKET_BYTES  NEXT POINTER VALUE_BYTES  OFFSETS CPUS
 */
#include "guest.h"
#include "timing.h"

static uint64_t buckets, bucket_count, offsets[8192];
static unsigned bucket_bytes, next_at, pointer_at, value_bytes, cpus;
static unsigned char *copies;

static struct result walk(void)
{
	struct result result = { 0, 0 };

	for (uint64_t bucket = 0; bucket < bucket_count; bucket++) {
		const unsigned char *head = locate(buckets + bucket * bucket_bytes, 8);
		uint64_t node;

		if (!head)
			missing("a bucket");
		for (node = u64_at(head); !(node & 1); ) {
			const unsigned char *element = locate(node, pointer_at + 8);
			uint64_t address;

			if (!element)
				missing("an element");
			address = u64_at(element + pointer_at);
			node = u64_at(element + next_at);
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
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);
	uint64_t table;

	if (argc < at + 8)
		return 2;
	buckets = strtoull(argv[at++], NULL, 0);
	bucket_count = strtoull(argv[at++], NULL, 0);
	bucket_bytes = atoi(argv[at++]);
	next_at = atoi(argv[at++]);
	pointer_at = atoi(argv[at++]);
	value_bytes = atoi(argv[at++]);
	table = strtoull(argv[at++], NULL, 0);
	cpus = atoi(argv[at++]);
	copies = malloc((size_t)cpus * value_bytes);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		offsets[cpu] = u64_at(locate(table + 8 * cpu, 8));
	return measure(argv, walk);
}
