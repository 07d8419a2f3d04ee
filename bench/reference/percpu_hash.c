/*
 * Walks a per-CPU hash bucket by bucket: collects the values of all CPUs in one buffer, and reads the first byte of each.
 * percpu_hash TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  BUCKETS COUNT BUCKET_BYTES  NEXT POINTER VALUE_BYTES  OFFSETS CPUS
 */
#include "percpu.h"
#include "timing.h"

static uint64_t buckets, bucket_count;
static unsigned bucket_bytes, next_at, pointer_at;

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
			/* Read before the next call reuses the buffer. */
			address = u64_at(element + pointer_at);
			node = u64_at(element + next_at);
			result.checksum += copy_all(address);
			result.items += cpus;
		}
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 8)
		return 2;
	buckets = strtoull(argv[at++], NULL, 0);
	bucket_count = strtoull(argv[at++], NULL, 0);
	bucket_bytes = atoi(argv[at++]);
	next_at = atoi(argv[at++]);
	pointer_at = atoi(argv[at++]);
	open_percpu(argv + at);
	return measure(argv, walk);
}
