/*
 * Sums the three counters of every program over the CPUs. A page of counters is translated once for all programs with
 * counters in it.
 * stats TIMES LOOPS FILE DIRECT_BASE ROOT LEVELS  PROGS COUNT PROG_BYTES STATS_AT  OFFSETS CPUS  CNT NSECS MISSES
 */
#include "guest.h"
#include "timing.h"

static uint64_t progs, count, offsets[8192];
static unsigned prog_bytes, stats_at, cpus, cnt_at, nsecs_at, misses_at;
static const unsigned char *pages[8192];
static uint64_t page;

static struct result walk(void)
{
	struct result result = { 0, 0 };

	for (uint64_t prog = 0; prog < count; prog++) {
		const unsigned char *at = locate(progs + prog * prog_bytes + stats_at, 8);
		uint64_t stats, cnt = 0, nsecs = 0, misses = 0;

		if (!at)
			missing("a program");
		stats = u64_at(at);
		if ((stats & ~(PAGE - 1)) != page) {
			page = stats & ~(PAGE - 1);
			for (unsigned cpu = 0; cpu < cpus; cpu++) {
				pages[cpu] = locate(page + offsets[cpu], PAGE);
				if (!pages[cpu])
					missing("a page of counters");
			}
		}
		for (unsigned cpu = 0; cpu < cpus; cpu++) {
			const unsigned char *counters = pages[cpu] + (stats & (PAGE - 1));

			cnt += u64_at(counters + cnt_at);
			nsecs += u64_at(counters + nsecs_at);
			misses += u64_at(counters + misses_at);
		}
		result.items++;
		result.checksum += cnt + 3 * nsecs + 5 * misses;
	}
	return result;
}

int main(int argc, char **argv)
{
	int at = 2 + open_guest(argv + 2);
	uint64_t table;

	if (argc < at + 9)
		return 2;
	progs = strtoull(argv[at++], NULL, 0);
	count = strtoull(argv[at++], NULL, 0);
	prog_bytes = atoi(argv[at++]);
	stats_at = atoi(argv[at++]);
	table = strtoull(argv[at++], NULL, 0);
	cpus = atoi(argv[at++]);
	cnt_at = atoi(argv[at++]);
	nsecs_at = atoi(argv[at++]);
	misses_at = atoi(argv[at++]);
	for (unsigned cpu = 0; cpu < cpus; cpu++)
		offsets[cpu] = u64_at(locate(table + 8 * cpu, 8));
	return measure(argv, walk);
}
