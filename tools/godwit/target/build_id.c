/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See build_id.h. Every offset and length of the file is checked against what was read of it. */
#include "build_id.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEADERS_MAX 128  /* program headers that are searched */
#define NOTES_MAX   4096 /* bytes of each note segment that are searched */

/* Returns: 0; -ENOEXEC: the file ends before that. */
static int read_at(int fd, void *buf, size_t size, uint64_t offset)
{
    ssize_t n = offset <= INT64_MAX ? pread(fd, buf, size, (off_t)offset) : 0;

    return n < 0 ? -errno : (size_t)n < size ? -ENOEXEC : 0;
}

static uint64_t align4(uint64_t n)
{
    return (n + 3) & ~UINT64_C(3);
}

/* Search one note segment. Returns: 0; -ENODATA. */
static int search(const uint8_t *notes, size_t size, char ret[BUILD_ID_SIZE])
{
    uint64_t at = 0;

    while (size - at > sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        uint64_t name = at + sizeof(note), desc, end;

        memcpy(&note, notes + at, sizeof(note));
        desc = name + align4(note.n_namesz);
        end = desc + align4(note.n_descsz);
        if (end > size)
            break;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz > 0 &&
            note.n_descsz <= (BUILD_ID_SIZE - 1) / 2) {
            for (unsigned i = 0; i < note.n_descsz; i++)
                snprintf(ret + (size_t)2 * i, 3, "%02x", notes[desc + i]);
            return 0;
        }
        at = end;
    }
    return -ENODATA;
}

static int search_segment(int fd, const Elf64_Phdr *segment, char ret[BUILD_ID_SIZE])
{
    uint8_t notes[NOTES_MAX];
    size_t size = segment->p_filesz < sizeof(notes) ? segment->p_filesz : sizeof(notes);
    int r = segment->p_type == PT_NOTE ? read_at(fd, notes, size, segment->p_offset) : -ENODATA;

    return r < 0 ? r : search(notes, size, ret);
}

static int search_file(int fd, char ret[BUILD_ID_SIZE])
{
    Elf64_Phdr segments[HEADERS_MAX];
    Elf64_Ehdr header;
    unsigned n;
    int r = read_at(fd, &header, sizeof(header), 0);

    if (r < 0)
        return r;
    /* A file of the other byte order has another e_phentsize. */
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof(segments[0]))
        return -ENOEXEC;
    n = header.e_phnum < HEADERS_MAX ? header.e_phnum : HEADERS_MAX;
    r = read_at(fd, segments, n * sizeof(segments[0]), header.e_phoff);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < n; i++) {
        if (search_segment(fd, &segments[i], ret) == 0)
            return 0;
    }
    return -ENODATA;
}

int build_id_read(const char *path, char ret[BUILD_ID_SIZE])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;

    if (fd < 0)
        return -errno;
    r = search_file(fd, ret);
    close(fd);
    return r;
}
