/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Lists of disks: the syntax of --disk and of configuration files, and what two disks exclude. */
#include "disks/disk_list.h"

#include "fdcheck.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct disk_list list;
static struct disk_list_error error;

static int add(const char *text)
{
    return disk_list_add(&list, text, "PLACE", &error);
}

/* The list has no disk afterwards. */
static void refuse(const char *text, const char *why)
{
    assert_int_equal(add(text), -EINVAL);
    if (strstr(error.text, why) == NULL)
        fail_msg("%s: %s", text, error.text);
    assert_int_equal(strncmp(error.text, "PLACE: ", 7), 0);
    disk_list_done(&list);
}

static void test_disk_list_every_key(void **state)
{
    const struct disk_options *o;

    assert_int_equal(
        add("name=vm, socket=/run/a.sock,file=/srv/a.img,client,reconnect=5,"
            "num-queues=3,queue-size=0x80,read-only,serial=12 3,logical-block-size=4096,"
            "direct=on,locking=off,discard=ignore,delay=7"),
        0);
    o = list.disks[0];
    assert_string_equal(o->name, "vm");
    assert_string_equal(o->place, "PLACE");
    assert_string_equal(o->device.socket_path, "/run/a.sock");
    assert_true(o->device.is_client);
    assert_int_equal(o->device.reconnect_s, 5);
    assert_int_equal(o->device.num_queues, 3);
    assert_int_equal(o->device.queue_size, 128);
    assert_int_equal(o->device.fd, -1);
    assert_string_equal(o->file.path, "/srv/a.img");
    assert_true(o->file.is_read_only);
    assert_int_equal(o->file.block_size, 4096);
    assert_int_equal(o->file.direct, STORE_ON);
    assert_int_equal(o->file.locking, STORE_OFF);
    assert_string_equal(o->serial, "12 3");
    assert_int_equal(o->delay_ms, 7);
    assert_true(o->ignores_discard);
    disk_list_done(&list);
}

static void test_disk_list_defaults(void **state)
{
    struct disk_options *o;

    assert_int_equal(add("socket=s,ram=1M,client,reconnect"), 0);
    o = list.disks[0];
    assert_int_equal(o->ram, 1 << 20);
    assert_int_equal(o->device.reconnect_s, 1);
    assert_int_equal(o->device.num_queues, 1);
    assert_int_equal(o->device.queue_size, 1024);
    assert_int_equal(o->file.block_size, 512);
    assert_int_equal(o->file.lock_patience_ms, 8000);
    disk_list_done(&list);
}

static void test_disk_list_names(void **state)
{
    static const struct {
        const char *list, *name;
    } cases[] = {
        {"ram=1M,socket=/run/vm1.sock", "vm1"},
        {"ram=1M,socket=vm2", "vm2"},
        {"ram=1M,socket=/a.b/vm.1.sock", "vm.1"},
        {"ram=1M,socket=.hidden", ".hidden"},
        {"ram=1M,socket=/a b/c", "c"},
        {"ram=1M,socket=/a b/d e,name=f", "f"},
        {"ram=1M,socket=/run/x,,y.sock", "x,y"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(add(cases[i].list), 0);
        assert_string_equal(list.disks[i]->name, cases[i].name);
    }
    disk_list_done(&list);
    refuse("ram=1M,socket=/run/a b", "give name=NAME");
    refuse("ram=1M,socket=/run/", "give name=NAME");
    refuse("ram=1M,socket=a,name=b c", "name=b c is not a name");
    refuse("ram=1M,socket=a,name=", "name= is not a name");
    refuse("ram=1M,socket=a,name=0123456789012345678901234567890123456789012345678901234567890123x",
           "is not a name");
}

static void test_disk_list_commas(void **state)
{
    assert_int_equal(add("file=,,a,,,,b,,,socket=s"), 0);
    assert_string_equal(list.disks[0]->file.path, ",a,,b,");
    assert_string_equal(list.disks[0]->device.socket_path, "s");
    disk_list_done(&list);
    assert_int_equal(add("file=a=b,socket=s"), 0);
    assert_string_equal(list.disks[0]->file.path, "a=b");
    disk_list_done(&list);
    refuse("", "a key is missing");
    refuse(",", "a key is missing");
    refuse("ram=1M,socket=s,", "a key is missing");
    refuse("=x,ram=1M,socket=s", "a key is missing");
}

static void test_disk_list_mistakes(void **state)
{
    char text[600] = "socket=";

    refuse("socket=s,ram=1M,colour=red", "colour is not a known key");
    refuse("socket=s,ram=1M,socket-path=t", "socket-path is not a known key");
    refuse("socket=s,ram=1M,ram=1M", "ram is given twice");
    refuse("socket,ram=1M", "socket needs a value");
    refuse("socket=,ram=1M", "there is no socket");
    refuse("socket=s,ram=1M,client=yes", "client takes no value");
    refuse("socket=s,ram=1M,fd=3", "fd is only an option");
    refuse("socket=s", "give one disk");
    refuse("socket=s,ram=1M,file=f", "give one disk");
    refuse("socket=s,ram=1000", "ram=1000 is not a multiple of the block size 512");
    refuse("socket=s,ram=1M,reconnect=3", "reconnect needs client");
    refuse("socket=s,ram=1M,queue-size=7", "queue-size=7 is not a power of two");
    refuse("socket=s,ram=1M,queue-size=65536", "queue-size=65536 is not a number from 2 to 32768");
    refuse("socket=s,ram=1M,serial=123456789012345678901", "is longer than 20 bytes");
    refuse("socket=s,ram=1M,logical-block-size=1000", "is not a power of two");
    refuse("socket=s,ram=1M,discard=off", "discard=off is not one of: unmap, ignore");
    /* A message has room for the end of a long value, too. */
    memset(text + strlen(text), 'x', 500);
    strcat(text, ",delay=1s");
    refuse(text, "delay=1s is not a number");
}

static void test_disk_list_each_only_once(void **state)
{
    assert_int_equal(add("name=a,socket=/s/1,file=f"), 0);
    assert_int_equal(add("name=a,socket=/s/2,file=g"), -EINVAL);
    assert_string_equal(error.text, "PLACE: name a is already that of the disk at PLACE");
    assert_int_equal(add("name=b,socket=/s/1,file=g"), -EINVAL);
    assert_string_equal(error.text, "PLACE: socket /s/1 is already that of the disk at PLACE");
    assert_int_equal(add("name=b,socket=/s/2,file=f"), -EINVAL);
    assert_string_equal(error.text, "PLACE: file f is already that of the disk at PLACE");
    assert_int_equal(add("name=b,socket=/s/2,file=f,read-only"), -EINVAL);
    assert_int_equal(list.n_disks, 1);
    assert_int_equal(add("name=b,socket=/s/2,file=g,read-only"), 0);
    assert_int_equal(add("name=c,socket=/s/3,file=g,read-only"), 0);
    assert_int_equal(add("name=d,socket=/s/4,file=h,locking=off"), 0);
    assert_int_equal(add("name=e,socket=/s/5,file=h,locking=off"), 0);
    assert_int_equal(add("name=f,socket=/s/6,file=h"), -EINVAL);
    assert_int_equal(list.n_disks, 5);
    disk_list_done(&list);
}

static void test_disk_list_finds_differences(void **state)
{
    static const char *const others[] = {
        "name=b,socket=s,file=f",
        "name=a,socket=t,file=f",
        "name=a,socket=s,file=g",
        "name=a,socket=s,ram=1M",
        "name=a,socket=s,file=f,client",
        "name=a,socket=s,file=f,client,reconnect",
        "name=a,socket=s,file=f,num-queues=2",
        "name=a,socket=s,file=f,queue-size=2",
        "name=a,socket=s,file=f,read-only",
        "name=a,socket=s,file=f,serial=x",
        "name=a,socket=s,file=f,logical-block-size=1024",
        "name=a,socket=s,file=f,direct=off",
        "name=a,socket=s,file=f,locking=on",
        "name=a,socket=s,file=f,discard=ignore",
        "name=a,socket=s,file=f,delay=1",
    };
    struct disk_options *one = NULL, *other = NULL;
    struct value_error why;

    assert_int_equal(disk_options_new(&one, "socket=s,name=a,file=f", "", &why), 0);
    assert_int_equal(disk_options_new(&other, "file=f,socket=s,name=a,direct=auto", "x", &why), 0);
    assert_true(disk_options_equal(one, other));
    disk_options_free(other);
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(disk_options_new(&other, others[i], "", &why), 0);
        if (disk_options_equal(one, other))
            fail_msg("%s", others[i]);
        disk_options_free(other);
    }
    disk_options_free(one);
}

static void test_disk_list_find(void **state)
{
    struct disk_list copy = {0};

    assert_int_equal(disk_list_find(&list, "a"), -1);
    assert_int_equal(add("name=b,socket=1,ram=1M"), 0);
    assert_int_equal(add("name=c,socket=2,ram=1M"), 0);
    assert_int_equal(add("name=a,socket=3,ram=1M"), 0);
    assert_int_equal(disk_list_share(&copy, &list), 0);
    disk_list_done(&list);
    disk_list_sort(&copy);
    assert_int_equal(disk_list_find(&copy, "a"), 0);
    assert_int_equal(disk_list_find(&copy, "c"), 2);
    assert_int_equal(disk_list_find(&copy, "d"), -1);
    assert_string_equal(copy.disks[2]->device.socket_path, "2");
    disk_list_done(&copy);
}

/* ---- files ---- */

/* Returns: the result of reading a file with this text. */
static int read_text(const char *text, size_t length)
{
    char path[] = "/tmp/godwit-list-XXXXXX";
    int fd = mkstemp(path), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
    close(fd);
    r = disk_list_read(&list, path, &error);
    unlink(path);
    return r;
}

static void test_disk_list_file(void **state)
{
    static const char text[] = "# comment\n"
                               "\n"
                               "   \t\n"
                               "  socket=a.sock , ram=1M\r\n"
                               "\t# another\n"
                               "socket=b.sock,file=/a b/c";

    assert_int_equal(read_text(text, strlen(text)), 0);
    assert_int_equal(list.n_disks, 2);
    assert_string_equal(list.disks[0]->name, "a");
    assert_string_equal(list.disks[0]->device.socket_path, "a.sock");
    assert_int_equal(list.disks[0]->ram, 1 << 20);
    assert_non_null(strstr(list.disks[0]->place, ":4"));
    assert_string_equal(list.disks[1]->file.path, "/a b/c");
    disk_list_done(&list);
    assert_int_equal(read_text("", 0), 0);
    assert_int_equal(read_text(" ", 1), 0);
    assert_int_equal(read_text("\t\n", 2), 0);
    assert_int_equal(list.n_disks, 0);
}

static void test_disk_list_file_that_is_none(void **state)
{
    assert_int_equal(disk_list_read(&list, "/tmp", &error), -EISDIR);
    assert_non_null(strstr(error.text, "cannot read /tmp: "));
    assert_int_equal(disk_list_read(&list, "/nowhere/list", &error), -ENOENT);
    assert_int_equal(disk_list_read(&list, "/dev/zero", &error), -EFBIG);
    assert_int_equal(read_text("socket=a\0,ram=1M\n", 17), -EINVAL);
    assert_non_null(strstr(error.text, ":1: the line has a NUL byte"));
    disk_list_done(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_disk_list_every_key),
        FDCHECK_TEST(test_disk_list_defaults),
        FDCHECK_TEST(test_disk_list_names),
        FDCHECK_TEST(test_disk_list_commas),
        FDCHECK_TEST(test_disk_list_mistakes),
        FDCHECK_TEST(test_disk_list_each_only_once),
        FDCHECK_TEST(test_disk_list_finds_differences),
        FDCHECK_TEST(test_disk_list_find),
        FDCHECK_TEST(test_disk_list_file),
        FDCHECK_TEST(test_disk_list_file_that_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
