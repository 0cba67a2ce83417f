/// The version of every program of this package.
public let productVersion = "1.0.0"
