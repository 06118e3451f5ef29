import { expect, test } from 'vitest'
import { fileHead } from '../../../../../daemon/http/hub/file-answer.ts'

const file = {
  path: 'a/model.bin',
  size: 10,
  etag: 'e'.repeat(64),
  commit: 'c'.repeat(40),
  isLfs: true,
}

test('has what every client of the Hub asks of a head', () => {
  expect(fileHead(file, {})).toMatchObject({
    status: 200,
    start: 0,
    end: 10,
    headers: {
      etag: `"${file.etag}"`,
      'x-repo-commit': file.commit,
      'x-linked-etag': `"${file.etag}"`,
      'x-linked-size': '10',
      'content-length': '10',
      'accept-ranges': 'bytes',
    },
  })
})

test('answers an empty file that is probed with a range as a file, and not as an error', () => {
  const { headers, status } = fileHead({ ...file, size: 0 }, { range: 'bytes=0-0' })
  expect({ status, length: headers['content-length'], range: headers['content-range'] }).toEqual({
    status: 200,
    length: '0',
    range: 'bytes */0',
  })
})

test.for([`"${file.etag}"`, `W/"${file.etag}"`, `"x", "${file.etag}"`, '*'])(
  'sends nothing to who has %s',
  header => {
    expect(fileHead(file, { 'if-none-match': header }).status).toBe(304)
  },
)

test('gives the whole file when the range is of another one', () => {
  const range = 'bytes=2-3'
  expect(fileHead(file, { range, 'if-range': '"other"' }).status).toBe(200)
  expect(fileHead(file, { range, 'if-range': `"${file.etag}"` }).status).toBe(206)
})

test.for(['x.html', 'x.SVG', 'x.xhtml', 'x.js'])('lets no browser open %s', path => {
  const { headers } = fileHead({ ...file, path }, {})
  expect(headers['content-disposition']).toMatch(/^attachment;/)
  expect(headers['content-type']).toBe('application/octet-stream')
})

test('keeps names inside their quotes', () => {
  const { headers } = fileHead({ ...file, path: "sub/na'me é;x.bin" }, {})
  expect(headers['content-disposition']).toBe(
    `inline; filename*=UTF-8''na%27me%20%C3%A9%3Bx.bin; filename="na_me __x.bin";`,
  )
})
