/*
 * Reads words at random pages of vmalloc'ed memory.
 * translate TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  BASE PAGES READS
 */
#include "guest.h"
#include "timing.h"

static uint64_t base;
static uint32_t pages, reads;

static struct result walk(void)
{
	struct result result = { reads, 0 };
	uint32_t seed = 1;

	for (uint32_t n = 0; n < reads; n++) {
		const unsigned char *at;

		seed = seed * 1664525u + 1013904223u;
		at = locate(base + (uint64_t)((seed >> 8) & (pages - 1)) * PAGE, 8);
		if (!at)
			missing("a page");
		result.checksum += u32_at(at);
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 3)
		return 2;
	base = strtoull(argv[at++], NULL, 0);
	pages = atoi(argv[at++]);
	reads = atoi(argv[at++]);
	return measure(argv, walk);
}
