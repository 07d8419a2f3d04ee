/*
 * Walks the objects of a struct idr by ascending id.
 * xarray TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  HEAD SHIFT_AT SLOTS_AT
 */
#include "guest.h"
#include "timing.h"

static uint64_t head;
static unsigned shift_at, slots_at;
static struct result result;

static void walk_node(uint64_t entry, uint64_t index)
{
	const unsigned char *node = locate(entry - 2, slots_at + 64 * 8);
	unsigned shift;

	if (!node)
		missing("a node");
	shift = node[shift_at];
	for (unsigned slot = 0; slot < 64; slot++) {
		uint64_t child = u64_at(node + slots_at + 8 * slot), id = index + ((uint64_t)slot << shift);

		if (!child)
			continue;
		if ((child & 3) == 2 && child > 4096)
			walk_node(child, id);
		else if (!(child & 3)) {
			result.items++;
			result.checksum += id + (child >> 12);
		}
	}
}

static struct result walk(void)
{
	const unsigned char *at = locate(head, 8);

	if (!at)
		missing("the head");
	result = (struct result){ 0, 0 };
	walk_node(u64_at(at), 0);
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 3)
		return 2;
	head = strtoull(argv[at++], NULL, 0);
	shift_at = atoi(argv[at++]);
	slots_at = atoi(argv[at++]);
	return measure(argv, walk);
}
