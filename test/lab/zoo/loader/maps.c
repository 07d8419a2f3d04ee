/* SPDX-License-Identifier: Apache-2.0 */
/* Creates maps without an object, which have no BTF, and fills maps of all types. */
#include "zoo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int raw_map(const struct raw_map *m)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = m->flags, .map_extra = m->extra,
		    .inner_map_fd = m->inner_fd);
	int fd = bpf_map_create(m->type, m->name, m->key_size, m->value_size, m->max_entries, &opts);
	if (fd < 0) {
		char why[64];
		snprintf(why, sizeof(why), "BPF_MAP_CREATE type %u: %s", m->type, strerror(errno));
		answer_skip("map", m->name, why);
		return -1;
	}
	return fd;
}

static void must_update(int fd, const void *key, const void *value)
{
	if (bpf_map_update_elem(fd, key, value, BPF_ANY))
		die("BPF_MAP_UPDATE_ELEM on fd %d: %m", fd);
}

void put(int fd, const void *key, size_t key_size, const void *value, size_t value_size, const char *expect)
{
	must_update(fd, key, value);
	map_entry(key, key_size, value, value_size, expect);
}

void pattern(void *out, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		((unsigned char *)out)[i] = (unsigned char)(seed + i);
}

void *percpu_alloc(size_t value_size)
{
	void *p = calloc(zoo.cpus, (value_size + 7) / 8 * 8);
	if (!p)
		die("out of memory");
	return p;
}

void percpu_pattern(void *values, size_t value_size, unsigned seed)
{
	for (int cpu = 0; cpu < zoo.cpus; cpu++)
		pattern((char *)values + cpu * ((value_size + 7) / 8 * 8), value_size, seed + 16 * cpu);
}

void put_percpu(int fd, const void *key, size_t key_size, const void *values, size_t value_size)
{
	must_update(fd, key, values);
	map_entry_percpu(key, key_size, values, value_size);
}

void answer_survivors(int fd, size_t key_size, size_t value_size, bool percpu)
{
	void *key = calloc(1, key_size), *next = calloc(1, key_size);
	void *value = percpu ? percpu_alloc(value_size) : calloc(1, value_size);
	bool first = true;
	while (!bpf_map_get_next_key(fd, first ? NULL : key, next)) {
		first = false;
		memcpy(key, next, key_size);
		if (bpf_map_lookup_elem(fd, key, value))
			die("a listed key no longer exists: fd %d: %m", fd);
		if (percpu)
			map_entry_percpu(key, key_size, value, value_size);
		else
			map_entry(key, key_size, value, value_size, NULL);
	}
	free(key);
	free(next);
	free(value);
}
