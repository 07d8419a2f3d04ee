/*
 * Reads the memory of a frozen x86-64 machine as ktstr does. The file is mapped. Addresses in the direct map are translated by one
 * subtraction, others by page tables, with a software TLB and a cache of last-level tables.
 */
#ifndef KTSTR_BENCH_GUEST_H
#define KTSTR_BENCH_GUEST_H
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define TLB_SLOTS 16384
#define TABLE_SLOTS 1024
#define ADDRESS_BITS 0x000ffffffffff000ul

static const unsigned char *image;
static uint64_t image_size, direct_base, page_root;
static int page_levels;
static struct { uint64_t page; const unsigned char *at; } tlb[TLB_SLOTS];
static struct { uint64_t region; const unsigned char *at; } tables[TABLE_SLOTS];
static unsigned char scratch[1 << 16];

static inline uint64_t u64_at(const void *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline uint32_t u32_at(const void *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Adjacent pages have adjacent slots, and pages 2^n apart do not collide. */
static inline unsigned slot_of(uint64_t number, unsigned slots)
{
	return ((number >> 3) * 0x9e3779b97f4a7c15ul >> 29 & (slots - 8)) | (number & 7);
}

/* Returns the physical address of a page, or -1. Caches its last-level table. */
static uint64_t walk_page(uint64_t address)
{
	unsigned slot = slot_of(address >> 21, TABLE_SLOTS);
	uint64_t table = page_root, entry;

	if (tables[slot].region == (address >> 21 | 1ul << 63)) {
		entry = u64_at(tables[slot].at + (address >> 12 & 511) * 8);
		return entry & 1 ? entry & ADDRESS_BITS : (uint64_t)-1;
	}
	for (int level = page_levels - 1; level >= 0; level--) {
		int shift = 12 + 9 * level;

		if (table + PAGE > image_size)
			return -1;
		if (level == 0) {
			tables[slot].region = address >> 21 | 1ul << 63;
			tables[slot].at = image + table;
		}
		entry = u64_at(image + table + (address >> shift & 511) * 8);
		if (!(entry & 1))
			return -1;
		if (level == 0 || (entry & 0x80)) {
			uint64_t inside = (1ul << shift) - 1;

			return ((entry & ADDRESS_BITS & ~inside) | (address & inside)) & ~(PAGE - 1);
		}
		table = entry & ADDRESS_BITS;
	}
	return -1;
}

static const unsigned char *locate_page(uint64_t address)
{
	unsigned slot = slot_of(address >> 12, TLB_SLOTS);
	uint64_t physical;

	if (tlb[slot].page == (address >> 12 | 1ul << 63))
		return tlb[slot].at;
	physical = walk_page(address);
	if (physical == (uint64_t)-1 || physical + PAGE > image_size)
		return NULL;
	tlb[slot].page = address >> 12 | 1ul << 63;
	tlb[slot].at = image + physical;
	return tlb[slot].at;
}

static __attribute__((noinline)) const unsigned char *locate_across(uint64_t address, unsigned long length)
{
	unsigned long done = 0;

	if (length > sizeof(scratch))
		return NULL;
	while (done < length) {
		unsigned long inside = (address + done) & (PAGE - 1), size = PAGE - inside;
		const unsigned char *page = locate_page(address + done);

		if (!page)
			return NULL;
		if (size > length - done)
			size = length - done;
		memcpy(scratch + done, page + inside, size);
		done += size;
	}
	return scratch;
}

/* Returns `length` bytes at an address; NULL if they are absent. Valid until the next call. */
static inline const unsigned char *locate(uint64_t address, unsigned long length)
{
	uint64_t physical = address - direct_base, inside = address & (PAGE - 1);
	const unsigned char *page;

	if (physical < image_size && length <= image_size - physical)
		return image + physical;
	if (inside + length > PAGE)
		return locate_across(address, length);
	page = locate_page(address);
	return page ? page + inside : NULL;
}

/* Opens the file of argv, FILE DIRECT_BASE ROOT LEVELS ...; returns the number of these words. */
static int open_guest(char **argv)
{
	int fd = open(argv[1], O_RDONLY);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat)) {
		perror(argv[1]);
		exit(1);
	}
	image_size = stat.st_size;
	image = mmap(NULL, image_size, PROT_READ, MAP_SHARED, fd, 0);
	if (image == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	direct_base = strtoull(argv[2], NULL, 0);
	page_root = strtoull(argv[3], NULL, 0);
	page_levels = atoi(argv[4]);
	return 5;
}

static void missing(const char *what)
{
	fprintf(stderr, "%s is not in the image\n", what);
	exit(1);
}
#endif
