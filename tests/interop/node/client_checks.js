// node-zookeeper-client against a server: prints `ok NAME` or `FAILED NAME: reason` for each check.
// Usage: node client_checks.js HOST:PORT BASE, where BASE is a path that does not exist yet.
'use strict';

const assert = require('assert');
const {promisify} = require('util');
const zookeeper = require('node-zookeeper-client');

const WAIT_MS = 20000;
const [hosts, base] = process.argv.slice(2);
const {CreateMode, Event, Exception, ACL, Id, Permission} = zookeeper;
const clients = [];

function within(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), WAIT_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The client's calls with a callback last, as promises.
const wrapped = (client) => new Proxy(client, {
    get(target, name) {
        const value = target[name];
        const calls = ['create', 'remove', 'setData', 'getData', 'setACL', 'getACL', 'exists',
            'getChildren', 'mkdirp'];
        if (!calls.includes(name)) {
            return typeof value === 'function' ? value.bind(target) : value;
        }
        if (name === 'getData' || name === 'getACL' || name === 'getChildren') {
            const keys = {getData: 'data', getACL: 'acls', getChildren: 'children'};
            return (...parts) => within(new Promise((resolve, reject) => {
                value.call(target, ...parts, (error, result, stat) => (
                    error ? reject(error) : resolve({[keys[name]]: result, stat})));
            }), name);
        }
        return (...parts) => within(promisify(value).call(target, ...parts), name);
    },
});

async function open(where = hosts) {
    const client = zookeeper.createClient(where, {sessionTimeout: 20000});
    clients.push(client);
    const connected = new Promise((resolve) => client.once('connected', resolve));
    client.connect();
    await within(connected, 'the connection');
    return wrapped(client);
}

async function fails(code, promise) {
    await assert.rejects(promise, (error) => error.getCode() === code);
}

function once() {
    let fire;
    const event = new Promise((resolve) => {
        fire = resolve;
    });
    return [within(event, 'a watch'), fire];
}

const checks = {
    async operations(path) {
        const zk = await open();
        assert.strictEqual(await zk.create(path, Buffer.from('one')), path);
        const {data, stat} = await zk.getData(path);
        assert.strictEqual(data.toString(), 'one');
        assert.strictEqual(stat.version, 0);
        assert.strictEqual(stat.dataLength, 3);
        const changed = await zk.setData(path, Buffer.from('three'), 0);
        assert.strictEqual(changed.version, 1);
        assert.deepStrictEqual(await zk.exists(path), changed);
        assert.strictEqual(await zk.exists(`${path}/missing`), null);
        await zk.create(`${path}/a`);
        await zk.create(`${path}/b`);
        const listed = await zk.getChildren(path);
        assert.deepStrictEqual(listed.children.sort(), ['a', 'b']);
        assert.strictEqual(listed.stat.numChildren, 2);
        await zk.remove(`${path}/a`, 0);
        await zk.mkdirp(`${path}/x/y/z`);
        assert.notStrictEqual(await zk.exists(`${path}/x/y/z`), null);
        await zk.remove(`${path}/x/y/z`);
        assert.strictEqual(await zk.exists(`${path}/x/y/z`), null);
    },

    async errors(path) {
        const zk = await open();
        await zk.create(path);
        await zk.create(`${path}/e`, CreateMode.EPHEMERAL);
        await fails(Exception.NODE_EXISTS, zk.create(path));
        await fails(Exception.NO_NODE, zk.create(`${path}/x/y`));
        await fails(Exception.NO_NODE, zk.getData(`${path}/x`));
        await fails(Exception.BAD_VERSION, zk.setData(path, Buffer.from(''), 5));
        await fails(Exception.BAD_VERSION, zk.remove(path, 5));
        await fails(Exception.NOT_EMPTY, zk.remove(path));
        await fails(Exception.NO_CHILDREN_FOR_EPHEMERALS, zk.create(`${path}/e/x`));
        await fails(Exception.INVALID_ACL, zk.create(`${path}/x`, ACL.CREATOR_ALL_ACL));
    },

    async modes(path) {
        const zk = await open();
        await zk.create(path);
        assert.strictEqual(await zk.create(`${path}/s`, CreateMode.PERSISTENT_SEQUENTIAL), `${path}/s0000000000`);
        const ephemeral = await zk.create(`${path}/s`, CreateMode.EPHEMERAL_SEQUENTIAL);
        assert.strictEqual(ephemeral, `${path}/s0000000001`);
        const stat = await zk.exists(ephemeral);
        assert.deepStrictEqual(Buffer.from(stat.ephemeralOwner), Buffer.from(zk.getSessionId()));
    },

    async watches(path) {
        const zk = await open();
        const other = await open();
        const [created, onCreated] = once();
        assert.strictEqual(await zk.exists(path, onCreated), null);
        await other.create(path);
        assert.strictEqual((await created).getType(), Event.NODE_CREATED);
        const [changed, onChanged] = once();
        const [children, onChildren] = once();
        await zk.getData(path, onChanged);
        await zk.getChildren(path, onChildren);
        await other.setData(path, Buffer.from('x'), -1);
        assert.strictEqual((await changed).getType(), Event.NODE_DATA_CHANGED);
        await other.create(`${path}/x`);
        assert.strictEqual((await children).getType(), Event.NODE_CHILDREN_CHANGED);
        const [deleted, onDeleted] = once();
        await zk.getData(`${path}/x`, onDeleted);
        await other.remove(`${path}/x`);
        const event = await deleted;
        assert.strictEqual(event.getType(), Event.NODE_DELETED);
        assert.strictEqual(event.getPath(), `${path}/x`);
    },

    async transactions(path) {
        const zk = await open();
        const commit = (transaction) => within(new Promise((resolve) => {
            transaction.commit((error, results) => resolve({error, results}));
        }), 'a transaction');
        const done = await commit(zk.transaction()
            .create(path)
            .create(`${path}/a`, Buffer.from('1'))
            .setData(`${path}/a`, Buffer.from('2'), 0)
            .check(`${path}/a`, 1)
            .remove(`${path}/a`, 1));
        assert.ifError(done.error);
        assert.strictEqual(done.results.length, 5);
        assert.deepStrictEqual((await zk.getChildren(path)).children, []);
        const failed = await commit(zk.transaction().create(`${path}/b`).check(path, 9).create(`${path}/c`));
        assert.strictEqual(failed.error.getCode(), Exception.BAD_VERSION);
        assert.deepStrictEqual((await zk.getChildren(path)).children, []);
    },

    async acls(path) {
        const owner = await open();
        const stranger = await open();
        owner.addAuthInfo('digest', Buffer.from('ann:secret'));
        await owner.create(path, Buffer.from('mine'), ACL.CREATOR_ALL_ACL);
        const {acls} = await owner.getACL(path);
        assert.strictEqual(acls.length, 1);
        assert.strictEqual(acls[0].id.scheme, 'digest');
        await fails(Exception.NO_AUTH, stranger.getData(path));
        await fails(Exception.NO_AUTH, stranger.create(`${path}/x`));
        const everybody = [new ACL(Permission.READ, new Id('world', 'anyone'))];
        const stat = await owner.setACL(path, everybody, 0);
        assert.strictEqual(stat.aversion, 1);
        assert.strictEqual((await stranger.getData(path)).data.toString(), 'mine');
        await fails(Exception.NO_AUTH, stranger.setData(path, Buffer.from(''), -1));
    },

    async chroot(path) {
        const zk = await open();
        await zk.create(path);
        const inside = await open(hosts + path);
        assert.strictEqual(await inside.create('/a'), '/a');
        assert.notStrictEqual(await zk.exists(`${path}/a`), null);
    },

    async 'closed-session'(path) {
        const zk = await open();
        const other = await open();
        await other.create(path, CreateMode.EPHEMERAL);
        const [deleted, onDeleted] = once();
        assert.notStrictEqual(await zk.exists(path, onDeleted), null);
        other.close();
        assert.strictEqual((await deleted).getType(), Event.NODE_DELETED);
    },

    async 'many-in-flight'(path) {
        const zk = await open();
        await zk.create(path);
        const names = Array.from({length: 500}, (_, number) => `${path}/n${number}`);
        assert.deepStrictEqual(await Promise.all(names.map((name) => zk.create(name))), names);
        assert.strictEqual((await zk.getChildren(path)).children.length, 500);
    },
};

async function main() {
    const zk = await open();
    await zk.create(base);
    for (const [name, check] of Object.entries(checks)) {
        try {
            await check(`${base}/${name}`);
            console.log(`ok ${name}`);
        } catch (error) {
            process.exitCode = 1;
            console.log(`FAILED ${name}: ${String(error.stack).split('\n').slice(0, 8).join(' | ')}`);
        }
    }
    clients.forEach((client) => client.close());
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
