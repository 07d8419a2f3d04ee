/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the answers: one JSON document, whose sections are written while the maps are filled. */
#include "zoo.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

enum section { MAPS, PROGRAMS, LINKS, SKIPPED, SECTION_COUNT };
static const char *const titles[SECTION_COUNT] = { "maps", "programs", "links", "skipped" };
static struct {
	FILE *out;
	char *text;
	size_t size;
	bool started;
} sections[SECTION_COUNT];
static bool entries_started;

void answers_begin(void)
{
	for (int i = 0; i < SECTION_COUNT; i++) {
		sections[i].out = open_memstream(&sections[i].text, &sections[i].size);
		if (!sections[i].out)
			die("answers: out of memory");
	}
}

static FILE *next_in(enum section s)
{
	fputs(sections[s].started ? ",\n" : "\n", sections[s].out);
	sections[s].started = true;
	return sections[s].out;
}

static void put_string(FILE *out, const char *s)
{
	fputc('"', out);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			fprintf(out, "\\u%04x", (unsigned char)*s);
		else
			fputc(*s, out);
	}
	fputc('"', out);
}

static void put_hex(FILE *out, const void *bytes, size_t size)
{
	fputc('"', out);
	for (size_t i = 0; i < size; i++)
		fprintf(out, "%02x", ((const unsigned char *)bytes)[i]);
	fputc('"', out);
}

void map_open(int fd, const char *content, const char *moving)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	if (bpf_map_get_info_by_fd(fd, &info, &len))
		die("map info of fd %d (%s): %m", fd, content);
	FILE *out = next_in(MAPS);
	fputs("{\"name\":", out);
	put_string(out, info.name);
	fprintf(out,
		",\"id\":%u,\"type\":%u,\"key_size\":%u,\"value_size\":%u,\"max_entries\":%u,\"map_flags\":%u,"
		"\"map_extra\":\"%llu\",\"btf_id\":%u,\"content\":\"%s\",\"static\":%s",
		info.id, info.type, info.key_size, info.value_size, info.max_entries, info.map_flags,
		(unsigned long long)info.map_extra, info.btf_id, content, moving ? "false" : "true");
	if (moving) {
		fputs(",\"moving\":", out);
		put_string(out, moving);
	}
	entries_started = false;
}

void map_field(const char *fmt, ...)
{
	va_list args;
	if (entries_started)
		die("answers: a member after the first element");
	fputc(',', sections[MAPS].out);
	va_start(args, fmt);
	vfprintf(sections[MAPS].out, fmt, args);
	va_end(args);
}

static FILE *next_entry(void)
{
	fputs(entries_started ? ",\n  {" : ",\"entries\":[\n  {", sections[MAPS].out);
	entries_started = true;
	return sections[MAPS].out;
}

void map_entry(const void *key, size_t key_size, const void *value, size_t value_size, const char *expect)
{
	FILE *out = next_entry();
	fputs("\"key\":", out);
	put_hex(out, key, key_size);
	fputs(",\"value\":", out);
	put_hex(out, value, value_size);
	if (expect)
		fprintf(out, ",\"expect\":%s", expect);
	fputc('}', out);
}

void map_entry_percpu(const void *key, size_t key_size, const void *values, size_t value_size)
{
	FILE *out = next_entry();
	size_t stride = (value_size + 7) / 8 * 8;
	fputs("\"key\":", out);
	put_hex(out, key, key_size);
	fputs(",\"values\":[", out);
	for (int cpu = 0; cpu < zoo.cpus; cpu++) {
		fputs(cpu ? "," : "", out);
		put_hex(out, (const char *)values + cpu * stride, value_size);
	}
	fputs("]}", out);
}

void map_record(const void *value, size_t value_size, const char *extra)
{
	FILE *out = next_entry();
	fputs("\"value\":", out);
	put_hex(out, value, value_size);
	fprintf(out, "%s%s}", extra ? "," : "", extra ? extra : "");
}

void map_close(void)
{
	fputs(entries_started ? "]}" : ",\"entries\":[]}", sections[MAPS].out);
}

void answer_prog(int fd, __u64 runs, bool exact)
{
	__u32 ids[64] = {};
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	info.nr_map_ids = 64;
	info.map_ids = (__u64)(unsigned long)ids;
	if (bpf_prog_get_info_by_fd(fd, &info, &len))
		die("program info of fd %d: %m", fd);
	FILE *out = next_in(PROGRAMS);
	fputs("{\"name\":", out);
	put_string(out, info.name);
	fprintf(out, ",\"id\":%u,\"type\":%u,\"runs\":{\"%s\":\"%llu\"},\"map_ids\":[", info.id, info.type,
		exact ? "exact" : "min", (unsigned long long)runs);
	for (__u32 i = 0; i < info.nr_map_ids && i < 64; i++)
		fprintf(out, "%s%u", i ? "," : "", ids[i]);
	fputs("]}", out);
}

void answer_link(int fd, const char *extra)
{
	struct bpf_link_info info = {};
	__u32 len = sizeof(info);
	if (bpf_link_get_info_by_fd(fd, &info, &len))
		die("link info of fd %d: %m", fd);
	fprintf(next_in(LINKS), "{\"id\":%u,\"type\":%u,\"prog_id\":%u%s%s}", info.id, info.type, info.prog_id,
		extra ? "," : "", extra ? extra : "");
}

void answer_skip(const char *what, const char *name, const char *why)
{
	FILE *out = next_in(SKIPPED);
	fprintf(out, "{\"what\":\"%s\",\"name\":", what);
	put_string(out, name);
	fputs(",\"why\":", out);
	put_string(out, why);
	fputc('}', out);
}

void answers_write(FILE *out)
{
	struct utsname u;
	uname(&u);
	fprintf(out, "{\"version\":1,\"kernel\":{\"release\":\"%s\",\"machine\":\"%s\",\"possible_cpus\":%d,\"page_size\":%d}",
		u.release, u.machine, zoo.cpus, zoo.page_size);
	for (int i = 0; i < SECTION_COUNT; i++) {
		fclose(sections[i].out);
		fprintf(out, ",\n\"%s\":[%s]", titles[i], sections[i].text);
	}
	fputs("}\n", out);
	if (fflush(out))
		die("writing the answers: %m");
}
