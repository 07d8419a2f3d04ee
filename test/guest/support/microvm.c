/*
 * Maps a frozen machine's memory as Firecracker or Cloud Hypervisor map their guest's RAM, prints "ready", and waits for the
 * end of its standard input: microvm KIND FILE LOW HIGH. LOW bytes of RAM lie below the hole, HIGH above it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAP_RW (PROT_READ | PROT_WRITE)

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static char *map(size_t size, int flags, int fd, off_t offset)
{
	char *at = mmap(NULL, size, MAP_RW, flags | MAP_NORESERVE, fd, offset);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static int shared(const char *name, size_t size)
{
	int fd = memfd_create(name, 0);

	if (fd < 0 || ftruncate(fd, size) < 0)
		fail("memfd");
	return fd;
}

/* A region between two inaccessible pages. */
static char *guarded(size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *at = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return mmap(at + page, size, MAP_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/* Copies the file's data, without its holes, into the region of `size` bytes that starts at `start` in the file. */
static void fill(char *region, int fd, off_t start, size_t size)
{
	off_t end = start + size, at = start;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
		off_t hole = lseek(fd, at, SEEK_HOLE);

		for (hole = hole < end ? hole : end; at < hole;) {
			ssize_t got = pread(fd, region + (at - start), hole - at, at);

			if (got <= 0)
				fail("pread");
			at += got;
		}
	}
}

int main(int argc, char **argv)
{
	char *low, *high = NULL, *kind = argc > 4 ? argv[1] : "";
	size_t lows = argc > 4 ? strtoull(argv[3], NULL, 0) : 0, highs = argc > 4 ? strtoull(argv[4], NULL, 0) : 0;
	int fd = argc > 4 ? open(argv[2], O_RDONLY) : -1;

	if (fd < 0)
		fail("open");
	if (strcmp(kind, "memfd") == 0) {
		int memory = shared("guest_mem", lows + highs);

		low = map(lows, MAP_SHARED, memory, 0);
		if (highs > 0)
			high = map(highs, MAP_SHARED, memory, lows);
	} else if (strcmp(kind, "memfds") == 0) {
		low = map(lows, MAP_PRIVATE, shared("ch_ram", lows), 0);
		if (highs > 0)
			high = map(highs, MAP_PRIVATE, shared("ch_ram", highs), 0);
	} else if (strcmp(kind, "snapshot") == 0) {
		low = map(lows, MAP_PRIVATE, fd, 0);
		if (highs > 0)
			high = map(highs, MAP_PRIVATE, fd, lows);
	} else if (strcmp(kind, "guarded") == 0) {
		low = guarded(lows);
		if (highs > 0)
			high = guarded(highs);
	} else {
		low = map(lows, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (highs > 0)
			high = map(highs, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (strcmp(kind, "snapshot") != 0) {
		fill(low, fd, 0, lows);
		if (highs > 0)
			fill(high, fd, lows, highs);
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
