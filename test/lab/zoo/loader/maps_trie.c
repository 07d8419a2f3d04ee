/* SPDX-License-Identifier: Apache-2.0 */
/* LPM tries: prefixes of every kind, inner nodes without values, deletions. */
#include "zoo.h"

#include <errno.h>
#include <string.h>

struct prefix {
	__u32 length; /* bits */
	unsigned char data[32];
};

static int trie(const char *name, unsigned data_size, unsigned value_size)
{
	return raw_map(&(struct raw_map){ BPF_MAP_TYPE_LPM_TRIE, name, 4 + data_size, value_size, 64, BPF_F_NO_PREALLOC });
}

static void fill(const char *name, unsigned data_size, unsigned value_size, const struct prefix *keys, unsigned count)
{
	unsigned char value[64];
	int fd = trie(name, data_size, value_size);
	if (fd < 0)
		return;
	map_open(fd, "entries", NULL);
	for (unsigned i = 0; i < count; i++) {
		pattern(value, value_size, 0x21 + i);
		put(fd, &keys[i], 4 + data_size, value, value_size, NULL);
	}
	map_close();
}

static const struct prefix v4[] = {
	{ 0, { 0 } },		     { 8, { 10 } },	       { 13, { 10, 8 } },	   { 16, { 10, 9 } },
	{ 24, { 192, 168, 1 } },     { 24, { 192, 168, 2 } },  { 25, { 192, 168, 2, 128 } }, { 31, { 192, 168, 2, 6 } },
	{ 32, { 192, 168, 2, 200 } }, { 32, { 255, 255, 255, 255 } }, { 1, { 128 } },
};
static const struct prefix v6[] = {
	{ 64, { 0x20, 0x01, 0x0d, 0xb8 } },
	{ 127, { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 } },
	{ 128, { 0x20, 0x01, 0x0d, 0xb8, [15] = 3 } },
	{ 10, { 0xfe, 0x80 } },
	{ 7, { 0xfc } },
};
static const struct prefix odd[] = { { 40, "abcde" }, { 40, "abcdf" }, { 39, "zzzz" }, { 3, { 0xe0 } } };
static const struct prefix byte[] = { { 8, { 0xaa } }, { 7, { 0xaa } }, { 1, { 0x80 } }, { 0, { 0 } } };

/* Elements that remain after deletions that keep inner nodes, and after deletions that remove them. */
static void with_deletions(void)
{
	int fd = trie("z_lpm_deleted", 4, 8);
	if (fd < 0)
		return;
	const unsigned count = sizeof(v4) / sizeof(v4[0]);
	for (unsigned i = 0; i < count; i++) {
		unsigned long long value = 1000 + i;
		if (bpf_map_update_elem(fd, &v4[i], &value, BPF_ANY))
			die("z_lpm_deleted: %m");
	}
	map_open(fd, "entries", NULL);
	for (unsigned i = 0; i < count; i++) {
		unsigned long long value = 1000 + i;
		if (i % 2 == 0) {
			if (bpf_map_delete_elem(fd, &v4[i]))
				die("z_lpm_deleted: delete %u: %m", i);
		} else {
			map_entry(&v4[i], 8, &value, 8, NULL);
		}
	}
	map_close();
}

void show_tries(void)
{
	fill("z_lpm_v4", 4, 4, v4, sizeof(v4) / sizeof(v4[0]));
	fill("z_lpm_v6", 16, 3, v6, sizeof(v6) / sizeof(v6[0]));
	fill("z_lpm_odd", 5, 9, odd, sizeof(odd) / sizeof(odd[0]));
	fill("z_lpm_byte", 1, 1, byte, sizeof(byte) / sizeof(byte[0]));
	fill("z_lpm_root", 4, 8, v4, 1);
	fill("z_lpm_empty", 4, 8, v4, 0);
	with_deletions();
}
