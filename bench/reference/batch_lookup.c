/*
 * Walks a hash map of the running kernel with BPF_MAP_LOOKUP_BATCH: reads one byte of each key and one of each value.
 * batch_lookup TIMES LOOPS MAP_ID
 */
#include "timing.h"
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct bpf_map_info info;
static unsigned char *keys, *values;
static unsigned long batch;
static int fd;

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static struct result walk(void)
{
	struct result sum = { 0, 0 };
	uint64_t positions[2] = { 0 };
	union bpf_attr attr;
	int turn = 0;
	long result;

	do {
		memset(&attr, 0, sizeof(attr));
		attr.batch.in_batch = sum.items ? (uintptr_t)&positions[turn] : 0;
		attr.batch.out_batch = (uintptr_t)&positions[!turn];
		attr.batch.keys = (uintptr_t)keys;
		attr.batch.values = (uintptr_t)values;
		attr.batch.count = batch;
		attr.batch.map_fd = fd;
		result = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
		if (result && errno != ENOENT)
			fail("BPF_MAP_LOOKUP_BATCH");
		turn = !turn;
		sum.items += attr.batch.count;
		for (unsigned long i = 0; i < attr.batch.count; i++)
			sum.checksum += keys[i * info.key_size] + values[(i + 1) * info.value_size - 1];
	} while (!result);
	return sum;
}

int main(int argc, char **argv)
{
	union bpf_attr attr = { .map_id = argc > 3 ? atoi(argv[3]) : 0 };

	fd = bpf(BPF_MAP_GET_FD_BY_ID, &attr);
	if (fd < 0)
		fail("BPF_MAP_GET_FD_BY_ID");
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
		fail("BPF_OBJ_GET_INFO_BY_FD");
	batch = 512 * 1024 / (info.key_size + info.value_size);
	keys = malloc(batch * info.key_size);
	values = malloc(batch * info.value_size);
	return measure(argv, walk);
}
