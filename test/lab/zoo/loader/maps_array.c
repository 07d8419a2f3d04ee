/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays: strides, lengths, mmapable arrays, frozen arrays, per-CPU arrays. */
#include "zoo.h"

#include <stdlib.h>

static void array(const char *name, size_t value_size, unsigned max, unsigned flags, bool freeze)
{
	unsigned char *value = calloc(1, value_size);
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_ARRAY, name, 4, value_size, max, flags });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	if (freeze)
		map_field("\"frozen\":true");
	for (unsigned i = 0; i < max; i++) {
		pattern(value, value_size, 1 + 5 * i);
		put(fd, &i, 4, value, value_size, NULL);
	}
	map_close();
	if (freeze && bpf_map_freeze(fd))
		die("%s: freeze: %m", name);
	free(value);
}

static void percpu(const char *name, size_t value_size, unsigned max)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_PERCPU_ARRAY, name, 4, value_size, max });
	if (fd < 0)
		return;
	void *values = percpu_alloc(value_size);
	map_open(fd, "percpu", NULL);
	for (unsigned i = 0; i < max; i++) {
		percpu_pattern(values, value_size, 7 * i);
		put_percpu(fd, &i, 4, values, value_size);
	}
	map_close();
	free(values);
}

/* Elements that were not written are zero: an array has no absent elements. */
static void untouched(void)
{
	const unsigned char zero[8] = { 0 };
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_ARRAY, "z_a_zero", 4, 8, 3 });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	for (unsigned i = 0; i < 3; i++)
		map_entry(&i, 4, zero, 8, NULL);
	map_close();
}

/* Offsets of instructions. No program uses the map, so the loader's values stay (7.x: kernel/bpf/bpf_insn_array.c). */
static void instructions(void)
{
	int fd = raw_map(&(struct raw_map){ ZOO_MAP_TYPE_INSN_ARRAY, "z_insns", 4, 16, 4 });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	for (unsigned i = 0; i < 4; i++) {
		const __u32 value[4] = { 2 * i, 0, 0, 0 };
		put(fd, &i, 4, value, sizeof(value), NULL);
	}
	map_close();
}

void show_arrays(void)
{
	array("z_a_one", 8, 1, 0, false);
	array("z_a_byte", 1, 9, 0, false);
	array("z_a_three", 3, 7, 0, false);
	array("z_a_big", 5001, 3, 0, false);
	array("z_a_long", 8, 5000, 0, false);
	array("z_a_mmap", 8, 1024, BPF_F_MMAPABLE, false);
	array("z_a_mmap_odd", 4099, 3, BPF_F_MMAPABLE, false);
	array("z_a_frozen", 12, 5, 0, true);
	array("z_a_rdonly_prog", 12, 5, BPF_F_RDONLY_PROG, true);
	array("z_a_wronly_prog", 12, 5, BPF_F_WRONLY_PROG, false);
	array("z_a_inner_flag", 12, 5, BPF_F_INNER_MAP, false);
	array("z_a_wronly", 4, 2, BPF_F_WRONLY, false);
	untouched();
	percpu("z_pa", 8, 4);
	percpu("z_pa_one", 4, 1);
	percpu("z_pa_odd", 13, 5);
	percpu("z_pa_big", 2000, 2);
	instructions();
}
