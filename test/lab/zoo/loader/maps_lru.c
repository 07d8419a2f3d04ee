/* SPDX-License-Identifier: Apache-2.0 */
/* LRU maps. The kernel chooses which elements it evicts, so the answers are the elements that are read back. */
#include "zoo.h"

#include <stdlib.h>

static void lru(__u32 type, const char *name, unsigned max, unsigned inserted, unsigned flags)
{
	bool percpu = type == BPF_MAP_TYPE_LRU_PERCPU_HASH;
	unsigned char value[24];
	int fd = raw_map(&(struct raw_map){ type, name, 4, 20, max, flags });
	if (fd < 0)
		return;
	void *values = percpu_alloc(20);
	for (unsigned i = 0; i < inserted; i++) {
		pattern(value, sizeof(value), i);
		percpu_pattern(values, 20, i);
		if (bpf_map_update_elem(fd, &i, percpu ? values : value, BPF_ANY))
			die("%s: update %u: %m", name, i);
	}
	free(values);
	map_open(fd, percpu ? "percpu" : "entries", NULL);
	map_field("\"inserted\":%u", inserted);
	answer_survivors(fd, 4, 20, percpu);
	map_close();
}

void show_lru(void)
{
	lru(BPF_MAP_TYPE_LRU_HASH, "z_lru", 512, 400, 0);
	lru(BPF_MAP_TYPE_LRU_HASH, "z_lru_evicted", 256, 3000, 0);
	lru(BPF_MAP_TYPE_LRU_HASH, "z_lru_no_common", 64, 500, BPF_F_NO_COMMON_LRU);
	lru(BPF_MAP_TYPE_LRU_HASH, "z_lru_one", 1, 5, 0);
	lru(BPF_MAP_TYPE_LRU_HASH, "z_lru_empty", 16, 0, 0);
	lru(BPF_MAP_TYPE_LRU_PERCPU_HASH, "z_lru_percpu", 64, 500, 0);
	lru(BPF_MAP_TYPE_LRU_PERCPU_HASH, "z_lru_pcpu_ncom", 16, 100, BPF_F_NO_COMMON_LRU);
}
