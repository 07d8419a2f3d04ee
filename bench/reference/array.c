/*
 * Walks a struct bpf_array: reads the first byte of each value.
 * array TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  VALUES COUNT STRIDE VALUE_BYTES
 */
#include "guest.h"
#include "timing.h"

static uint64_t values, count;
static unsigned stride, value_bytes;

static struct result walk(void)
{
	struct result result = { 0, 0 };

	for (uint64_t index = 0; index < count; index++) {
		const unsigned char *value = locate(values + index * stride, value_bytes);

		if (!value)
			missing("a value");
		result.items++;
		result.checksum += value[0];
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);

	if (argc < at + 4)
		return 2;
	values = strtoull(argv[at++], NULL, 0);
	count = strtoull(argv[at++], NULL, 0);
	stride = atoi(argv[at++]);
	value_bytes = atoi(argv[at++]);
	return measure(argv, walk);
}
