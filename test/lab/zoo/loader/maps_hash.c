/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps: sizes, empty and full maps, chains, deletions, flags. */
#include "zoo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Adds `count` pairs of patterned bytes. The key starts with a sequence number. */
static void fill(int fd, size_t key_size, size_t value_size, unsigned count, unsigned seed)
{
	unsigned char *key = calloc(1, key_size), *value = calloc(1, value_size);
	for (unsigned i = 0; i < count; i++) {
		pattern(key, key_size, seed);
		memcpy(key, &i, key_size < 4 ? key_size : 4);
		pattern(value, value_size, seed + 3 * i);
		put(fd, key, key_size, value, value_size, NULL);
	}
	free(key);
	free(value);
}

/* A full hash map refuses another key. The answer has the errno. */
static int overflow(int fd, size_t key_size, size_t value_size)
{
	unsigned char *key = calloc(1, key_size), *value = calloc(1, value_size);
	memset(key, 0xee, key_size);
	int rc = bpf_map_update_elem(fd, key, value, BPF_ANY) ? errno : 0;
	free(key);
	free(value);
	return rc;
}

static void simple(const char *name, size_t key_size, size_t value_size, unsigned max, unsigned count, unsigned flags)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH, name, key_size, value_size, max, flags });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	fill(fd, key_size, value_size, count, key_size + 1);
	map_close();
}

static void overflowing(void)
{
	/* A preallocated map has one spare element per CPU, so it accepts at most max_entries + CPUs keys. */
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH, "z_h_overflow", 8, 8, 64, BPF_F_NO_PREALLOC });
	if (fd < 0)
		return;
	unsigned long long key[64];
	for (unsigned long long i = 0; i < 64; i++) {
		key[i] = i * 0x0101010101010101ull;
		bpf_map_update_elem(fd, &key[i], &i, BPF_ANY);
	}
	map_open(fd, "entries", NULL);
	map_field("\"overflow_errno\":%d", overflow(fd, 8, 8));
	for (unsigned long long i = 0; i < 64; i++)
		map_entry(&key[i], 8, &i, 8, NULL);
	map_close();
}

static inline __u32 rol(__u32 x, int n)
{
	return x << n | x >> (32 - n);
}

/*
* Returns the hash of a 4-byte key under BPF_F_ZERO_SEED: the final mix of Jenkins' lookup3 over one word
 * (include/linux/jhash.h; kernel/bpf/hashtab.c htab_map_hash).
 */
static __u32 hash_of_word(__u32 word)
{
	__u32 a = 0xdeadbeef + 4, b = a, c = a;
	a += word;
	c ^= b, c -= rol(b, 14);
	a ^= c, a -= rol(c, 11);
	b ^= a, b -= rol(a, 25);
	c ^= b, c -= rol(b, 16);
	a ^= c, a -= rol(c, 4);
	b ^= a, b -= rol(a, 14);
	c ^= b, c -= rol(b, 24);
	return c;
}

/* 200 of 256 elements in one bucket. */
static void colliding(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH, "z_h_collide", 4, 4, 256, BPF_F_ZERO_SEED });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	map_field("\"one_bucket\":200");
	unsigned count = 0;
	for (__u32 key = 0; count < 200; key++) {
		if ((hash_of_word(key) & 255) != 77)
			continue;
		put(fd, &key, 4, &count, 4, NULL);
		count++;
	}
	map_close();
}

static void with_deletions(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH, "z_h_deleted", 4, 12, 100 });
	unsigned char value[12];
	if (fd < 0)
		return;
	for (unsigned i = 0; i < 100; i++) {
		pattern(value, 12, i);
		bpf_map_update_elem(fd, &i, value, BPF_NOEXIST);
	}
	for (unsigned i = 0; i < 100; i++)
		if (i % 3)
			bpf_map_delete_elem(fd, &i);
	map_open(fd, "entries", NULL);
	for (unsigned i = 0; i < 100; i += 3) {
		pattern(value, 12, i);
		map_entry(&i, 4, value, 12, NULL);
	}
	map_close();
}

/* Values whose size is rounded up per CPU, different on each CPU. */
static void percpu(const char *name, size_t key_size, size_t value_size, unsigned count, unsigned flags)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_PERCPU_HASH, name, key_size, value_size, count, flags });
	if (fd < 0)
		return;
	void *values = percpu_alloc(value_size);
	unsigned char key[16];
	map_open(fd, "percpu", NULL);
	for (unsigned i = 0; i < count; i++) {
		pattern(key, sizeof(key), 0x40 + i);
		percpu_pattern(values, value_size, i);
		put_percpu(fd, key, key_size, values, value_size);
	}
	map_close();
	free(values);
}

/* BPF_F_RDONLY and BPF_F_WRONLY apply to bpf(2): the loader cannot fill the first map, and readers cannot read the second. */
static void one_way(void)
{
	int fd = raw_map(&(struct raw_map){ BPF_MAP_TYPE_HASH, "z_h_rdonly", 4, 4, 4, BPF_F_RDONLY });
	if (fd >= 0) {
		map_open(fd, "entries", NULL);
		map_close();
	}
	simple("z_h_wronly", 4, 4, 4, 3, BPF_F_WRONLY);
}

/* The resizable hash of 7.x, which must be created with BPF_F_NO_PREALLOC (kernel/bpf/hashtab.c). */
static void resizable(void)
{
	int fd = raw_map(&(struct raw_map){ ZOO_MAP_TYPE_RHASH, "z_rhash", 5, 9, 500, BPF_F_NO_PREALLOC });
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	fill(fd, 5, 9, 300, 9);
	map_close();
}

void show_hashes(void)
{
	simple("z_h_empty", 4, 8, 16, 0, 0);
	simple("z_h_one", 4, 8, 1, 1, 0);
	simple("z_h_two", 8, 4, 2, 2, 0);
	simple("z_h_three", 4, 4, 3, 3, 0);
	simple("z_h_key1", 1, 1, 256, 256, 0);
	simple("z_h_key3", 3, 3, 40, 33, 0);
	simple("z_h_key5", 5, 7, 40, 33, 0);
	simple("z_h_key13_vl_13", 13, 13, 40, 33, 0);
	simple("z_h_key64", 64, 2, 8, 5, 0);
	simple("z_h_noprealloc", 4, 6, 1000, 321, BPF_F_NO_PREALLOC);
	simple("z_h_noprea_zero", 4, 6, 1000, 0, BPF_F_NO_PREALLOC);
	simple("z_h_4000", 4, 4000, 8, 5, 0);
	simple("z_h_big_value", 4, 3 * 4096 + 5, 8, 5, 0);
	simple("z_h_key_300", 300, 300, 8, 7, BPF_F_NO_PREALLOC);
	simple("z_h_many", 4, 8, 20000, 20000, 0);
	simple("z_twin", 4, 4, 4, 1, 0);
	simple("z_twin", 4, 8, 4, 2, 0);
	overflowing();
	colliding();
	with_deletions();
	one_way();
	percpu("z_ph", 4, 8, 9, 0);
	percpu("z_ph_odd", 3, 5, 9, 0);
	percpu("z_ph_noprealloc", 13, 12, 9, BPF_F_NO_PREALLOC);
	percpu("z_ph_big", 4, 1000, 2, 0);
	percpu("z_ph_empty", 4, 4, 1, 0);
	resizable();
}
