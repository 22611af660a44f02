import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipInputStream;

/** Prints the entries of a ZIP archive as both readers of Java see them: name, size, and CRC-32 of the bytes. */
class ReadZip {
    public static void main(String[] arguments) throws IOException {
        Path path = Path.of(arguments[0]);
        System.out.println("ZipFile");
        try (ZipFile archive = new ZipFile(path.toFile())) {
            for (ZipEntry entry : (Iterable<ZipEntry>) archive.stream().map(e -> (ZipEntry) e)::iterator) {
                try (InputStream bytes = archive.getInputStream(entry)) {
                    print(entry.getName(), bytes);
                }
            }
        }
        System.out.println("ZipInputStream");
        try (ZipInputStream archive = new ZipInputStream(Files.newInputStream(path))) {
            ZipEntry entry;
            while ((entry = archive.getNextEntry()) != null) {
                print(entry.getName(), archive);
            }
        }
    }

    private static void print(String name, InputStream bytes) throws IOException {
        CRC32 sum = new CRC32();
        byte[] buffer = new byte[1 << 20];
        long size = 0;
        int count;
        while ((count = bytes.read(buffer)) >= 0) {
            sum.update(buffer, 0, count);
            size += count;
        }
        System.out.println(name + " " + size + " " + sum.getValue());
    }
}
