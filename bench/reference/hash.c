/*
 * Walks a struct bpf_htab bucket by bucket: reads one byte of each key and one of each value. Checks that the hash of each
 * element selects its bucket, as ktstr does to detect recycled elements.
 * hash TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  BUCKETS COUNT BUCKET_BYTES  NEXT HASH KEY VALUE VALUE_BYTES MOST
 */
#include "guest.h"
#include "timing.h"

static uint64_t buckets, bucket_count, most;
static unsigned bucket_bytes, next_at, hash_at, key_at, value_at, value_bytes;

static struct result walk(void)
{
	struct result result = { 0, 0 };
	unsigned span = value_at + value_bytes;

	for (uint64_t bucket = 0; bucket < bucket_count; bucket++) {
		const unsigned char *head = locate(buckets + bucket * bucket_bytes, 8);
		uint64_t node;

		if (!head)
			missing("a bucket");
		for (node = u64_at(head); !(node & 1); ) {
			const unsigned char *element = locate(node, span);

			if (!element)
				missing("an element");
			if ((u32_at(element + hash_at) ^ bucket) & (bucket_count - 1))
				missing("an element of this bucket");
			if (++result.items > most)
				missing("the end of a chain");
			result.checksum += element[key_at] + element[value_at + value_bytes - 1];
			node = u64_at(element + next_at);
		}
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 9)
		return 2;
	buckets = strtoull(argv[at++], NULL, 0);
	bucket_count = strtoull(argv[at++], NULL, 0);
	bucket_bytes = atoi(argv[at++]);
	next_at = atoi(argv[at++]);
	hash_at = atoi(argv[at++]);
	key_at = atoi(argv[at++]);
	value_at = atoi(argv[at++]);
	value_bytes = atoi(argv[at++]);
	most = strtoull(argv[at++], NULL, 0);
	return measure(argv, walk);
}
