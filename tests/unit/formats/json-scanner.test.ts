import fc from 'fast-check'
import { expect, test } from 'vitest'
import { JsonScanner } from '../../../src/formats/json-scanner.ts'
import { fuzzTimeoutMs, untilTime } from '../../support/fuzz.ts'
import { mutated } from '../../support/mutations.ts'

const budget = { plugins: [untilTime()], numRuns: 1e6 }

function accepts(text: string): boolean {
  try {
    const scanner = new JsonScanner(Buffer.from(text))
    scanner.skip()
    scanner.end()
    return true
  } catch {
    return false
  }
}

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const edges = [
  '',
  ' ',
  '{}',
  '[]',
  '[ ]',
  '{ }',
  '{,}',
  '[,]',
  '[1,]',
  '{"a":1,}',
  '{"a"}',
  '{"a":}',
  '{a:1}',
  '0',
  '-0',
  '01',
  '-',
  '+1',
  '1.',
  '.5',
  '1.0',
  '1e5',
  '1E+5',
  '1e-5',
  '1e',
  '1e+',
  '0x1',
  '1_0',
  'true',
  'false',
  'null',
  'True',
  'nul',
  'nulll',
  'NaN',
  'Infinity',
  'undefined',
  'truefalse',
  '"',
  '""',
  '"\\"',
  '"\\\\"',
  '"\\u12"',
  '"\\u12aF"',
  '"\\x41"',
  "'a'",
  '"\t"',
  '"\u007f\u2028"',
  '"\\ud800"',
  '[1 2]',
  '1 2',
  '[1]]',
  '{"a":1}}',
  '[[[]]]',
  '{"a":{"b":[{}]}}',
  '/**/1',
  '1//',
  '\ufeff1',
  '\u00a01',
  '\v1',
  '[1}',
  '{"a":1]',
  '{"a" : [ 1 , { "b" : null } ] }\r\n',
]

test.for(edges)('agrees with JSON.parse on %j', text => {
  expect(accepts(text)).toBe(parses(text))
})

test(
  'accepts what JSON.stringify writes',
  () => {
    fc.assert(
      fc.property(fc.json(), text => {
        expect(accepts(text)).toBe(true)
      }),
      budget,
    )
  },
  fuzzTimeoutMs(),
)

const jsonCharacters = Array.from('{}[]",:\\u0123456789eE+-.tfn \n')
const sample =
  '{"t0":{"dtype":"F\\u0033\\"2","shape":[-1.5e3,{}],"data_offsets":[0,1e2]},"é":[null,true]}'

test(
  'agrees with JSON.parse on damaged text',
  () => {
    const text = fc.oneof(
      mutated(Buffer.from(sample)).map(bytes => bytes.toString('utf8')),
      fc.string({ unit: fc.constantFrom(...jsonCharacters), maxLength: 12 }),
    )
    fc.assert(
      fc.property(text, damaged => {
        expect(accepts(damaged)).toBe(parses(damaged))
      }),
      budget,
    )
  },
  fuzzTimeoutMs(),
)

test('gives keys as JSON.parse does', () => {
  const keys: string[] = []
  const scanner = new JsonScanner(
    Buffer.from('{"plain":1,"\\u00e9":2,"é":3,"\\ud800":4,"__proto__":5,"":6}'),
  )
  scanner.object(key => {
    keys.push(key)
    scanner.skip()
  })
  expect(keys).toEqual(['plain', 'é', 'é', '\ud800', '__proto__', ''])
})

test('reads numbers as JSON.parse does', () => {
  const texts = ['0', '-0', '12', '1.0', '3e5', '1E-2', '9007199254740993', '1e400']
  for (const text of texts) {
    expect(new JsonScanner(Buffer.from(` ${text} `)).number()).toBe(JSON.parse(text))
  }
})

test('finds each value of one key, however the key is written', () => {
  const text = '{"key":1,"kez":2,"ke":[{"key":3}],"k\\u0065y":4,"keyé":5,"key":6}'
  const found: number[] = []
  const scanner = new JsonScanner(Buffer.from(text))
  scanner.member('key', () => found.push(scanner.number()))
  scanner.end()
  expect(found).toEqual([1, 4, 6])
})
