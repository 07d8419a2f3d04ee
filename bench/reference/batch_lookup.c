/*
 * The floor under a dump of a hash map: the same BPF_MAP_LOOKUP_BATCH calls and a look at every byte, no printing.
 * batch_lookup MAP_ID  prints how many elements there were and the sum of their bytes.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

int main(int argc, char **argv)
{
	struct bpf_map_info info = { 0 };
	union bpf_attr attr = { .map_id = argc > 1 ? atoi(argv[1]) : 0 };
	uint64_t positions[2] = { 0 }, sum = 0;
	unsigned char *keys, *values;
	unsigned long count = 0, batch;
	int fd = bpf(BPF_MAP_GET_FD_BY_ID, &attr), turn = 0;
	long result;

	if (fd < 0) {
		perror("BPF_MAP_GET_FD_BY_ID");
		return 1;
	}
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)) {
		perror("BPF_OBJ_GET_INFO_BY_FD");
		return 1;
	}
	batch = 512 * 1024 / (info.key_size + info.value_size);
	keys = malloc(batch * info.key_size);
	values = malloc(batch * info.value_size);
	do {
		memset(&attr, 0, sizeof(attr));
		attr.batch.in_batch = count ? (uintptr_t)&positions[turn] : 0;
		attr.batch.out_batch = (uintptr_t)&positions[!turn];
		attr.batch.keys = (uintptr_t)keys;
		attr.batch.values = (uintptr_t)values;
		attr.batch.count = batch;
		attr.batch.map_fd = fd;
		result = bpf(BPF_MAP_LOOKUP_BATCH, &attr);
		if (result && errno != ENOENT) {
			perror("BPF_MAP_LOOKUP_BATCH");
			return 1;
		}
		turn = !turn;
		count += attr.batch.count;
		for (unsigned long i = 0; i < attr.batch.count * info.key_size; i++)
			sum += keys[i];
		for (unsigned long i = 0; i < attr.batch.count * info.value_size; i++)
			sum += values[i];
	} while (!result);
	printf("%lu %lu\n", count, (unsigned long)sum);
	return 0;
}
