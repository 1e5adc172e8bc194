"""A disk that is slow, fails or loses power, for a child process: a small C library for LD_PRELOAD, and its control.

Every `write`, `pwrite`, `pwritev2`, `fsync` and `fdatasync` of the child on a file below one folder first reads the
control file, and sleeps or fails as it says. Other files are left alone, so that the child can still log.

    library = build(tmp_path)            # None where there is no C compiler: skip the test
    faults = DiskFaults(library, tmp_path / "faults", below=data_dir)
    child = subprocess.Popen(command, env=faults.environment())
    faults.set(fsync_errno=errno.EIO)

A power cut: after the child was killed, `cut_power` takes from every file what it had not synced, all of it; what was
written over something else is put back. A kill
alone never finds a missing fsync, because the kernel still writes what it was given. Names of files count as durable
at once.

Linux only. Works with statically linked RocksDB, as it calls the C library for input and output.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_UNDO = struct.Struct("=qq")
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SMALL = 4096 };

struct plan { int fsync_delay_ms, fsync_errno, write_errno, short_write; };

static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_unlink)(const char *);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

static int concerned(int fd) {
    static const char *below;
    char link[64], path[4096];
    ssize_t size;
    if (!below && !(below = getenv("DISK_FAULTS_BELOW"))) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((size = readlink(link, path, sizeof path - 1)) < 0) return 0;
    path[size] = 0;
    return strncmp(path, below, strlen(below)) == 0;
}

static struct plan plan_for(int fd) {
    struct plan plan = {0, 0, 0, 0};
    char text[256];
    const char *name = getenv("DISK_FAULTS_CONTROL");
    int control, saved = errno;
    ssize_t size;
    if (!name || !concerned(fd)) return plan;
    if ((control = open(name, O_RDONLY | O_CLOEXEC)) < 0) return plan;
    if (!real_read) real_read = dlsym(RTLD_NEXT, "read");
    size = real_read(control, text, sizeof text - 1);
    close(control);
    text[size > 0 ? size : 0] = 0;
    sscanf(text, "%d %d %d %d", &plan.fsync_delay_ms, &plan.fsync_errno, &plan.write_errno, &plan.short_write);
    errno = saved;
    return plan;
}

/* One line a sync, "inode size"; of a small file, which may be written in place, also a copy of its content. */
static void note(const char *journal, struct stat *stat, const char *content) {
    char line[64], name[4096], temporary[4096 + 8];
    int saved = errno, fd, size;
    if (content) {
        snprintf(name, sizeof name, "%s.%lu", journal, (unsigned long)stat->st_ino);
        snprintf(temporary, sizeof temporary, "%s.tmp%d", name, (int)gettid());
        if ((fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) >= 0) {
            if (real_write(fd, content, stat->st_size) == stat->st_size) renameat(AT_FDCWD, temporary, AT_FDCWD, name);
            close(fd);
        }
    }
    if ((fd = open(journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) >= 0) {
        size = snprintf(line, sizeof line, "%lu %ld\n", (unsigned long)stat->st_ino, (long)stat->st_size);
        if (real_write(fd, line, size) != size) abort();
        close(fd);
    }
    errno = saved;
}

/* What was written over something else, until it is synced: int64 offset, int64 length, the old bytes. Length -1: the
   newest of that offset is synced. */
static void undo_name(char *name, size_t size, unsigned long inode) {
    snprintf(name, size, "%s.%lu.undo", getenv("DISK_FAULTS_JOURNAL"), inode);
}

static void keep(int fd, off_t at, long size) {
    char name[4096], *old;
    struct stat stat;
    long head[2] = {at, size}, got;
    int saved = errno, undo;
    if (!getenv("DISK_FAULTS_JOURNAL") || !concerned(fd) || fstat(fd, &stat) || !S_ISREG(stat.st_mode)) return;
    if (size >= 0 && at >= stat.st_size) return;
    undo_name(name, sizeof name, stat.st_ino);
    if ((undo = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) abort();
    if (size < 0) {
        if (real_write(undo, head, sizeof head) != sizeof head) abort();
    } else {
        old = malloc(sizeof head + size);
        got = pread(fd, old + sizeof head, size, at);
        head[1] = got;
        memcpy(old, head, sizeof head);
        if (got < 0 || real_write(undo, old, sizeof head + got) != (ssize_t)sizeof head + got) abort();
        free(old);
    }
    close(undo);
    errno = saved;
}

static int synced(int fd, const char *name) {
    struct plan plan = plan_for(fd);
    int (*real)(int) = dlsym(RTLD_NEXT, name), result;
    const char *journal = getenv("DISK_FAULTS_JOURNAL");
    struct stat stat;
    char content[SMALL];
    int known = journal && concerned(fd) && fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
    int small = known && stat.st_size <= SMALL && pread(fd, content, SMALL, 0) == stat.st_size;
    if (plan.fsync_delay_ms) {
        struct timespec wait = {plan.fsync_delay_ms / 1000, plan.fsync_delay_ms % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
    if (plan.fsync_errno) { errno = plan.fsync_errno; return -1; }
    result = real(fd);
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (result == 0 && known) {
        char undo[4096];
        if (!real_unlink) real_unlink = dlsym(RTLD_NEXT, "unlink");
        undo_name(undo, sizeof undo, stat.st_ino);
        real_unlink(undo);
        note(journal, &stat, small ? content : NULL);
    }
    return result;
}

/* Inode numbers are used again: what was noted about a file ends with it. */
static void forget(struct stat *stat) {
    const char *journal = getenv("DISK_FAULTS_JOURNAL");
    char name[4096];
    if (!journal || stat->st_nlink != 1 || !S_ISREG(stat->st_mode)) return;
    snprintf(name, sizeof name, "%s.%lu", journal, (unsigned long)stat->st_ino);
    real_unlink(name);
    undo_name(name, sizeof name, stat->st_ino);
    real_unlink(name);
    stat->st_size = -1;
    note(journal, stat, NULL);
}

int unlink(const char *path) {
    struct stat stat;
    int known = lstat(path, &stat) == 0, result;
    if (!real_unlink) real_unlink = dlsym(RTLD_NEXT, "unlink");
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    result = real_unlink(path);
    if (result == 0 && known) forget(&stat);
    return result;
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    struct stat stat;
    int known = lstat(to, &stat) == 0, result;
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    if (!real_unlink) real_unlink = dlsym(RTLD_NEXT, "unlink");
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    result = real(from, to);
    if (result == 0 && known) forget(&stat);
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

ssize_t write(int fd, const void *data, size_t size) {
    struct plan plan = plan_for(fd);
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    if (plan.short_write && size > 1) real_write(fd, data, size / 2);
    if (plan.write_errno) { errno = plan.write_errno; return -1; }
    return real_write(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    struct plan plan = plan_for(fd);
    if (!real_pwrite) real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    keep(fd, at, size);
    if (plan.short_write && size > 1) real_pwrite(fd, data, size / 2, at);
    if (plan.write_errno) { errno = plan.write_errno; return -1; }
    return real_pwrite(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return pwrite(fd, data, size, at); }

/* One buffer, written and synced at once (RWF_DSYNC): as a pwrite and an fdatasync of what it wrote. */
ssize_t pwritev2(int fd, const struct iovec *data, int count, off_t at, int flags) {
    ssize_t size;
    struct plan plan = plan_for(fd);
    struct stat stat;
    if (count != 1) { errno = ENOSYS; return -1; }
    size = pwrite(fd, data->iov_base, data->iov_len, at);
    if (size < 0 || !(flags & RWF_DSYNC)) return size;
    if (plan.fsync_delay_ms) {
        struct timespec wait = {plan.fsync_delay_ms / 1000, plan.fsync_delay_ms % 1000 * 1000000L};
        nanosleep(&wait, NULL);
    }
    if (plan.fsync_errno) { errno = plan.fsync_errno; return -1; }
    if (getenv("DISK_FAULTS_JOURNAL") && concerned(fd) && fstat(fd, &stat) == 0) {
        keep(fd, at, -1);
        note(getenv("DISK_FAULTS_JOURNAL"), &stat, NULL);
    }
    return size;
}

ssize_t pwritev64v2(int fd, const struct iovec *data, int count, off_t at, int flags) {
    return pwritev2(fd, data, count, at, flags);
}
"""


def build(folder: Path) -> Path | None:
    """Compile the library into `folder`; None if this machine has no C compiler or is not Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not os.path.isdir("/proc/self/fd"):
        return None
    source, library = folder / "disk_faults.c", folder / "disk_faults.so"
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


class DiskFaults:
    """What happens to a child's input and output below the folder `below`. Nothing, until `set`."""

    def __init__(self, library: Path, control: Path, *, below: Path) -> None:
        self._library = library
        self._control = control
        self._below = below
        self._kept: dict[int, bytes] = {}
        self._journal = control.with_suffix(".synced")
        self.set()

    def set(
        self, *, fsync_delay_ms: int = 0, fsync_errno: int = 0, write_errno: int = 0, short_write: bool = False
    ) -> None:
        """Replace the whole plan. `short_write`: half of the bytes arrive before a write fails."""
        temporary = self._control.with_suffix(".tmp")
        temporary.write_text(f"{fsync_delay_ms} {fsync_errno} {write_errno} {int(short_write)}\n")
        os.replace(temporary, self._control)

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The child's environment."""
        return {
            **base,
            "LD_PRELOAD": str(self._library),
            "DISK_FAULTS_CONTROL": str(self._control),
            "DISK_FAULTS_BELOW": str(self._below.resolve()),
            "DISK_FAULTS_JOURNAL": str(self._journal),
        }

    def start_journal(self) -> None:
        """What is on the disk now counts as synced. While no child runs."""
        for old in self._journal.parent.glob(self._journal.name + "*"):
            old.unlink()
        self._kept = {file.stat().st_ino: file.read_bytes() for file in self._files()}

    def cut_power(self) -> int:
        """Take away what was not synced since `start_journal`. The child must be dead. Returns the bytes lost."""
        sizes: dict[int, int] = {}
        for line in self._journal.read_text().splitlines() if self._journal.exists() else []:
            inode, size = map(int, line.split())
            sizes[inode] = size
            if size < 0:  # the file is gone, the number may be used again
                del sizes[inode]
                self._kept.pop(inode, None)
        lost = 0
        for file in self._files():
            inode, size = file.stat().st_ino, file.stat().st_size
            copy = self._journal.with_name(f"{self._journal.name}.{inode}")
            if inode not in sizes:
                durable = self._kept.get(inode, b"")
                if file.read_bytes() != durable:
                    lost += max(0, size - len(durable))
                    file.write_bytes(durable)
            elif copy.exists() and copy.stat().st_size == sizes[inode]:
                lost += size - sizes[inode]
                file.write_bytes(copy.read_bytes())
            else:
                lost += self._undo(file)
                if size > sizes[inode]:
                    lost += size - sizes[inode]
                    os.truncate(file, sizes[inode])
        return lost

    def _undo(self, file: Path) -> int:
        """Put back what was overwritten and not synced. Returns the bytes."""
        record = self._journal.with_name(f"{self._journal.name}.{file.stat().st_ino}.undo")
        data = record.read_bytes() if record.exists() else b""
        undone: list[tuple[int, bytes]] = []
        at = 0
        while len(data) - at >= _UNDO.size:
            offset, size = _UNDO.unpack_from(data, at)
            at += _UNDO.size
            if size < 0:
                undone = [old for old in undone if old[0] != offset]
            else:
                undone.append((offset, data[at : at + size]))
                at += size
        with open(file, "r+b") as stream:
            for offset, old in reversed(undone):
                stream.seek(offset)
                stream.write(old)
        return sum(len(old) for _, old in undone)

    def _files(self) -> list[Path]:
        return [file for file in self._below.rglob("*") if file.is_file()]
