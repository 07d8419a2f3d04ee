/* SPDX-License-Identifier: Apache-2.0 */
/* Maps without keys: queues, stacks, bloom filters. Records are in the order in which the map returns them. */
#include "zoo.h"

#include <errno.h>

/* Pushes `pushed` values and pops `popped` of them. If pushed > max, the ring's indices have wrapped. */
static void queue(__u32 type, const char *name, unsigned value_size, unsigned max, unsigned pushed, unsigned popped)
{
	unsigned char value[64];
	bool stack = type == BPF_MAP_TYPE_STACK;
	int fd = raw_map(&(struct raw_map){ type, name, 0, value_size, max });
	if (fd < 0)
		return;
	/* If the map is full, one value is popped: a queue keeps the last values, a stack the first ones. */
	unsigned held[64], count = 0, left = popped;
	for (unsigned i = 0; i < pushed; i++) {
		if (count == max && left) {
			if (bpf_map_lookup_and_delete_elem(fd, NULL, value))
				die("%s: pop: %m", name);
			count--;
			left--;
			for (unsigned j = 0; !stack && j < count; j++)
				held[j] = held[j + 1];
		}
		pattern(value, sizeof(value), 11 * i);
		if (bpf_map_update_elem(fd, NULL, value, BPF_ANY))
			die("%s: push %u: %m", name, i);
		held[count++] = i;
	}
	for (; left; left--, count--) {
		if (bpf_map_lookup_and_delete_elem(fd, NULL, value))
			die("%s: pop: %m", name);
		for (unsigned j = 0; !stack && j + 1 < count; j++)
			held[j] = held[j + 1];
	}
	map_open(fd, "records", NULL);
	for (unsigned i = 0; i < count; i++) {
		pattern(value, sizeof(value), 11 * held[stack ? count - 1 - i : i]);
		map_record(value, value_size, NULL);
	}
	map_close();
}

/* A bloom filter can match values that were not pushed. The records are the values that were pushed. */
static void bloom(const char *name, unsigned value_size, unsigned max, unsigned hashes, unsigned count)
{
	unsigned char value[64];
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_BLOOM_FILTER, name, 0, value_size, max, 0, hashes });
	if (fd < 0)
		return;
	map_open(fd, "bloom", NULL);
	for (unsigned i = 0; i < count; i++) {
		pattern(value, sizeof(value), 17 * i);
		if (bpf_map_update_elem(fd, NULL, value, BPF_ANY))
			die("%s: push: %m", name);
		map_record(value, value_size, NULL);
	}
	map_close();
}

void show_queues(void)
{
	queue(BPF_MAP_TYPE_QUEUE, "z_queue", 8, 8, 5, 0);
	queue(BPF_MAP_TYPE_QUEUE, "z_queue_wrapped", 12, 7, 17, 12);
	queue(BPF_MAP_TYPE_QUEUE, "z_queue_full", 3, 5, 5, 0);
	queue(BPF_MAP_TYPE_QUEUE, "z_queue_empty", 4, 5, 5, 5);
	queue(BPF_MAP_TYPE_STACK, "z_stack", 8, 8, 5, 2);
	queue(BPF_MAP_TYPE_STACK, "z_stack_full", 13, 4, 9, 5);
	queue(BPF_MAP_TYPE_STACK, "z_stack_empty", 4, 4, 0, 0);
	bloom("z_bloom", 4, 100, 3, 20);
	bloom("z_bloom_odd", 13, 10, 0, 10);
	bloom("z_bloom_empty", 8, 10, 5, 0);
}
