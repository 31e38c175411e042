// JavaScript that the interpreter and the compilers run, and that calls C++.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');

function fib(n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

const limit = Date.now() + 120000;
const text = 'some text to be packed '.repeat(500);

function work() {
    for (let i = 0; i < 20; i++) {
        fib(18);
        JSON.parse(JSON.stringify({ a: Array(200).fill({ b: [1, 'c'] }) }));
        crypto.createHash('sha256').update(text).digest('hex');
        zlib.deflateSync(text);
        text.replace(/(\w+) (\w+)/g, (all, a, b) => b + a);
    }
    if (Date.now() < limit) setImmediate(work);
}

work();
console.log('ready');
