/*
 * Debian 13's libelf.a (elfutils 0.192) calls these two of an internal library that no package has as an archive. They
 * guard a tree of raw chunks (elf_getdata_rawchunk), which libbpf never asks for: an empty tree needs no work.
 */
void eu_search_tree_init(void *tree) { (void)tree; }
void eu_search_tree_fini(void *tree, void (*free_node)(void *))
{
	(void)tree;
	(void)free_node;
}
