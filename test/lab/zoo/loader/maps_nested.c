/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of maps and of programs. bpf(2) returns ids as their values; memory has pointers. */
#include "zoo.h"

#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

static __u32 map_id(int fd)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	if (bpf_map_get_info_by_fd(fd, &info, &len))
		die("map info: %m");
	return info.id;
}

static __u32 prog_id(int fd)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	if (bpf_prog_get_info_by_fd(fd, &info, &len))
		die("program info: %m");
	return info.id;
}

/* An inner map with one known pair. Inner maps have answers of their own. */
static int inner(const char *name, __u32 type, __u32 max, __u32 flags, unsigned seed)
{
	const __u32 key = 0, value = 0x1000 + seed;
	int fd = raw_map(&(struct raw_map){ type, name, 4, 4, max, flags });
	if (fd < 0)
		die("%s: an inner map must be possible", name);
	map_open(fd, "entries", NULL);
	put(fd, &key, 4, &value, 4, NULL);
	for (__u32 i = 1; type == BPF_MAP_TYPE_ARRAY && i < max; i++)
		map_entry(&i, 4, &(__u32){ 0 }, 4, NULL);
	map_close();
	return fd;
}

/* bpf(2) takes an fd and returns an id. */
static void put_by_id(int fd, __u32 key, int held_fd, __u32 id)
{
	if (bpf_map_update_elem(fd, &key, &held_fd, BPF_ANY))
		die("update of a map of maps or programs: %m");
	map_entry(&key, 4, &id, 4, NULL);
}

static void array_of_maps(void)
{
	int first = inner("z_inner_array", BPF_MAP_TYPE_ARRAY, 2, 0, 1);
	int second = inner("z_inner_array2", BPF_MAP_TYPE_ARRAY, 2, 0, 2);
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_ARRAY_OF_MAPS, "z_array_of_maps", 4, 4, 5, 0, 0, first });
	if (fd < 0)
		return;
	map_open(fd, "map-ids", NULL);
	put_by_id(fd, 1, first, map_id(first));
	put_by_id(fd, 3, second, map_id(second));
	put_by_id(fd, 4, first, map_id(first));
	map_close();
}

static void hash_of_maps(void)
{
	int first = inner("z_inner_hash", BPF_MAP_TYPE_HASH, 4, BPF_F_NO_PREALLOC, 3);
	int second = inner("z_inner_hash2", BPF_MAP_TYPE_HASH, 9, BPF_F_NO_PREALLOC, 4);
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH_OF_MAPS, "z_hash_of_maps", 4, 4, 5, 0, 0, first });
	if (fd < 0)
		return;
	map_open(fd, "map-ids", NULL);
	put_by_id(fd, 0x11223344, first, map_id(first));
	put_by_id(fd, 7, second, map_id(second));
	map_close();
	fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH_OF_MAPS, "z_hom_empty", 8, 4, 5, 0, 0, first });
	map_open(fd, "map-ids", NULL);
	map_close();
}

/* r0 = 0; exit */
static int two_instructions(const char *name)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, name, "GPL", insns, 2, NULL);
	if (fd < 0)
		die("a program of two instructions: %m");
	answer_prog(fd, 0, true);
	return fd;
}

static void prog_array(void)
{
	int first = two_instructions("z_tail_a"), second = two_instructions("z_tail_b");
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_PROG_ARRAY, "z_prog_array", 4, 4, 8 });
	if (fd >= 0) {
		map_open(fd, "prog-ids", NULL);
		put_by_id(fd, 0, first, prog_id(first));
		put_by_id(fd, 5, second, prog_id(second));
		put_by_id(fd, 7, first, prog_id(first));
		map_close();
	}
	fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_PROG_ARRAY, "z_pa_no_owner", 4, 4, 3 });
	if (fd >= 0) {
		map_open(fd, "prog-ids", NULL);
		map_close();
	}
}

void show_nested(void)
{
	array_of_maps();
	hash_of_maps();
	prog_array();
}
