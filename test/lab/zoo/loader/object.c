/* SPDX-License-Identifier: Apache-2.0 */
/* Loads BPF objects without the maps and programs that this kernel refuses. */
#include "zoo.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEFT_OUT = 64, NAME_SIZE = 64, WHY_SIZE = 256 };

struct left_out {
	bool is_map;
	char name[NAME_SIZE], why[WHY_SIZE];
};

/* The last warning of libbpf with the name of a program or a map, which stopped the load. */
static struct left_out culprit;
static char last_warning[WHY_SIZE];

static int listen_to_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[8192];
	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(line, sizeof(line), fmt, args);
	if (getenv("ZOO_VERBOSE"))
		fputs(line, stderr);
	snprintf(last_warning, sizeof(last_warning), "%s", line);
	const char *prog = strstr(line, "prog '"), *map = strstr(line, "map '");
	const char *at = prog ? prog + 6 : map ? map + 5 : NULL;
	const char *end = at ? strchr(at, '\'') : NULL;
	/* The verifier's log is a separate warning, after the warning about the failed call. */
	if (!end || strstr(line, "BEGIN PROG LOAD LOG"))
		return 0;
	/* The first warning about a program has the error's text. */
	if (culprit.name[0] && !strncmp(culprit.name, at, end - at) && !culprit.name[end - at])
		return 0;
	culprit.is_map = !prog;
	snprintf(culprit.name, sizeof(culprit.name), "%.*s", (int)(end - at), at);
	snprintf(culprit.why, sizeof(culprit.why), "%.*s", (int)strcspn(line, "\n"), line);
	return 0;
}

static void leave_out(struct bpf_object *o, const struct left_out *l)
{
	if (l->is_map) {
		struct bpf_map *m = bpf_object__find_map_by_name(o, l->name);
		if (m)
			bpf_map__set_autocreate(m, false);
	} else {
		struct bpf_program *p = bpf_object__find_program_by_name(o, l->name);
		if (p)
			bpf_program__set_autoload(p, false);
	}
}

struct bpf_object *object_load(const struct embedded *e, void (*prepare)(struct bpf_object *))
{
	static struct left_out out[MAX_LEFT_OUT];
	int count = 0;
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = e->name);
	libbpf_set_print(listen_to_libbpf);
	for (;;) {
		struct bpf_object *o = bpf_object__open_mem(e->start, (const char *)e->end - (const char *)e->start, &opts);
		if (!o)
			die("%s: the object does not open: %m: %s", e->name, last_warning);
		for (int i = 0; i < count; i++)
			leave_out(o, &out[i]);
		if (prepare)
			prepare(o);
		memset(&culprit, 0, sizeof(culprit));
		if (!bpf_object__load(o)) {
			for (int i = 0; i < count; i++)
				answer_skip(out[i].is_map ? "map" : "program", out[i].name, out[i].why);
			return o;
		}
		bpf_object__close(o);
		for (int i = 0; i < count; i++)
			if (!strcmp(out[i].name, culprit.name))
				culprit.name[0] = 0;
		if (!culprit.name[0] || count == MAX_LEFT_OUT) {
			answer_skip("object", e->name, last_warning);
			return NULL;
		}
		out[count++] = culprit;
	}
}

int object_map(struct bpf_object *o, const char *name)
{
	struct bpf_map *m = o ? bpf_object__find_map_by_name(o, name) : NULL;
	/* libbpf reserves an fd for every map, created or not. */
	return m && bpf_map__autocreate(m) ? bpf_map__fd(m) : -1;
}

int object_prog(struct bpf_object *o, const char *name)
{
	struct bpf_program *p = o ? bpf_object__find_program_by_name(o, name) : NULL;
	return p && bpf_program__fd(p) > 0 ? bpf_program__fd(p) : -1;
}

void answer_sections(struct bpf_object *o)
{
	struct bpf_map *m;
	bpf_object__for_each_map(m, o) {
		size_t size;
		const void *bytes = bpf_map__is_internal(m) && bpf_map__autocreate(m) ? bpf_map__initial_value(m, &size) : NULL;
		if (!bytes)
			continue;
		map_open(bpf_map__fd(m), "entries", NULL);
		map_entry(&(__u32){ 0 }, 4, bytes, bpf_map__value_size(m), NULL);
		map_close();
	}
}
