import AdminAPI
import Foundation
import NIOCore
import Testing

@testable import mlvpn_admin

@Suite struct OutputFileTests {
    /// With and without what the file system may lack.
    @Test(arguments: [true, false]) func aFileIsThereWholeOrNotAtAll(mayBeNameless: Bool) throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("output-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let path = directory + "/b.db"
        func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: directory) }
        do {
            let abandoned = try OutputFile(path, mayBeNameless: mayBeNameless)
            try abandoned.write(ByteBuffer(string: "half"))
        }
        #expect(try names().isEmpty)
        let output = try OutputFile(path, mayBeNameless: mayBeNameless)
        try output.write(ByteBuffer(string: "whole"))
        #expect(!(try names().contains("b.db")))
        try output.publish()
        #expect(try names() == ["b.db"])
        #expect(FileManager.default.contents(atPath: path) == Data("whole".utf8))
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
        let second = try OutputFile(path, mayBeNameless: mayBeNameless)
        #expect(throws: Problem.self) { try second.publish() }
        #expect(FileManager.default.contents(atPath: path) == Data("whole".utf8))
    }
}
